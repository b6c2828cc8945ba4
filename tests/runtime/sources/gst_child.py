"""Runs a ``gst:`` URI in an interpreter that can import gi; prints one JSON object an item.

Arguments: URI, how many frames, seconds of silence that count as a stall.
"""

from __future__ import annotations

import base64
import json
import sys

from edgevlm.errors import ConfigError, SourceError
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources import open_source

uri, wanted, timeout_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
try:
    source = open_source(uri, reconnect=False, timeout_s=timeout_s)
    count = 0
    for item in source.frames():
        if isinstance(item, Frame):
            said = {
                "index": item.index, "media_s": item.media_s, "size_wh": item.pixels.size_wh,
                "rgb": base64.b64encode(item.pixels.rgb().tobytes()).decode(),
                "luma": base64.b64encode(item.pixels.luma().tobytes()).decode(),
            }  # fmt: skip
            count += 1
        elif isinstance(item, BadFrame):
            said = {"bad": item.reason}
        else:
            said = {"fault": item.code, "message": item.message}
        print(json.dumps({"name": source.name, **said}), flush=True)
        if count == wanted:
            source.close()
    print(json.dumps({"ended": source.name}))
except (SourceError, ConfigError) as exc:
    print(json.dumps({"error": type(exc).__name__, "message": str(exc)}))
