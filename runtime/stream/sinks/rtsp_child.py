"""Encodes pictures from standard input and publishes them over RTSP: a sink's child process.

libav holds Python's lock while it dials out, and gives no way to interrupt that: here it holds up
nobody, and whoever started this ends it. Input: one line of JSON (``uri``, ``options`` of libav,
``width`` and ``height`` in pixels), then, a picture each, its time in milliseconds (uint32, little
endian) and its RGB bytes. Says ``ready`` when it is about to dial and ``up`` when the server takes
the stream, and ends with the input.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from typing import Any

import numpy as np

from edgevlm.runtime.stream.sinks.publisher import READY, UP
from edgevlm.runtime.stream.sources.uri import scrub

STAMP_BYTES = 4
TIME_BASE = Fraction(1, 1000)
KEY_FRAME_MS = 2000  # a viewer who joins waits no longer
ENCODER = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}


def publish(settings: dict[str, Any]) -> None:
    """Publish standard input until it ends.

    Args:
        settings: the first line of the input.

    Raises:
        av.FFmpegError: no connection, or it broke.
    """
    import av
    from av.video.frame import PictureType

    _say(READY)
    size_wh = settings["width"], settings["height"]
    container = av.open(settings["uri"], "w", format="rtsp", options=settings["options"])
    stream = container.add_stream("libx264", options=ENCODER)
    stream.width, stream.height = size_wh
    stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TIME_BASE
    key_ms, up = -KEY_FRAME_MS, False
    while record := sys.stdin.buffer.read(STAMP_BYTES + 3 * size_wh[0] * size_wh[1]):
        at_ms = int.from_bytes(record[:STAMP_BYTES], "little")
        pixels = np.frombuffer(record, np.uint8, offset=STAMP_BYTES)
        picture = av.VideoFrame.from_ndarray(pixels.reshape(size_wh[1], size_wh[0], 3), "rgb24")
        picture.pts, picture.time_base = at_ms, TIME_BASE
        if at_ms - key_ms >= KEY_FRAME_MS:
            picture.pict_type, key_ms = PictureType.I, at_ms
        for packet in stream.encode(picture):
            container.mux(packet)  # the first one dials
        if not up:
            _say(UP)
            up = True
    container.close()


def _say(word: bytes) -> None:
    sys.stdout.buffer.write(word)
    sys.stdout.buffer.flush()


def main() -> None:
    """Publish; the last line on standard error says what went wrong."""
    import av

    settings = json.loads(sys.stdin.buffer.readline())
    try:
        publish(settings)
    except av.error.HTTPUnauthorizedError:
        sys.exit("authentication failed (401); check user and password")
    except (av.FFmpegError, OSError) as exc:
        sys.exit(scrub(str(getattr(exc, "strerror", None) or exc), settings["uri"]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
