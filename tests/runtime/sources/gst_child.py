"""Runs ``gst:`` URIs in an interpreter that can import gi; prints a JSON list of items for each.

Arguments: how many frames, seconds of silence that count as a stall, URIs.
"""

from __future__ import annotations

import base64
import json
import sys

from edgevlm.errors import ConfigError, SourceError
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources import open_source


def items(uri, wanted, timeout_s):
    found = []
    try:
        source = open_source(uri, reconnect=False, timeout_s=timeout_s)
        count = 0
        for item in source.frames():
            if isinstance(item, Frame):
                pixels = item.pixels
                found.append({
                    "index": item.index, "media_s": item.media_s, "size_wh": pixels.size_wh,
                    "rgb": base64.b64encode(pixels.rgb().tobytes()).decode(),
                    "luma": base64.b64encode(pixels.luma().tobytes()).decode(),
                })  # fmt: skip
                count += 1
            elif isinstance(item, BadFrame):
                found.append({"bad": item.reason})
            else:
                found.append({"fault": item.code, "message": item.message})
            if count == wanted:
                source.close()
        found.append({"ended": source.name})
    except (SourceError, ConfigError) as exc:
        found.append({"error": type(exc).__name__, "message": str(exc)})
    return found


for uri in sys.argv[3:]:
    print(json.dumps(items(uri, int(sys.argv[1]), float(sys.argv[2]))), flush=True)
