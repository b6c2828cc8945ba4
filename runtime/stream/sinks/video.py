"""``video:PATH``: the frames that were looked at as a video, each with the answer that stands."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgevlm.errors import SinkError
from edgevlm.event import DropReason
from edgevlm.frame import Frame, UInt8
from edgevlm.runtime.stream.sinks.base import Decision, Told
from edgevlm.runtime.stream.sinks.standing import Standing

CODEC, CRF, PRESET = "libx264", "23", "veryfast"
TIME_BASE = Fraction(1, 1000)
LONGEST_PX = 1280
LINES = 3
_PAPER, _INK, _FRESH, _ALARM = (0, 0, 0, 150), "white", (80, 220, 120), (255, 90, 90)


class VideoSink:
    """Writes an annotated video; frames keep their times, so a sampled stream plays in real time.

    Every frame is converted and encoded, on the stream's own thread: for looking at what a stream
    does, not for the fastest one.

    Args:
        uri: as in ``video:out.mp4``; the ending chooses the container.

    Raises:
        SinkError: the file cannot be written.
    """

    def __init__(self, uri: str) -> None:
        import av

        self.name = uri
        self._path = Path(uri.partition(":")[2])
        self._av = av
        try:
            self._path.open("wb").close()  # libav opens it with the first frame only
            self._container: Any = av.open(str(self._path), "w")
        except (OSError, ValueError, av.FFmpegError) as exc:
            raise SinkError(f"{uri} cannot be written: {exc}") from exc
        self._stream: Any = None
        self._size_wh = (0, 0)
        self._begun_ns = 0
        self._last_ms = -1
        self._waiting: tuple[Frame, Decision] | None = None
        self._standing = Standing()
        self._failed = False

    def seen(
        self,
        frame: Frame,
        do: Decision,
        _dropped: Mapping[DropReason, int],
        _asks: Sequence[int] = (),
    ) -> None:
        """A frame was looked at; it is drawn when its event, if it has one, is known."""
        self._draw()
        self._waiting = (frame, do)

    def write(self, told: Told) -> None:
        """Note what stands.

        Raises:
            SinkError: the file cannot be written any more; said once.
        """
        self._standing.take(told.event)

    def _draw(self) -> None:
        if self._waiting is None or self._failed:
            return
        (frame, do), self._waiting = self._waiting, None
        text, states = self._standing.text, self._standing.states
        image = annotated(frame.pixels.rgb(), text, states, fresh=do == "answer")
        try:
            self._encode(image, frame)
        except (OSError, ValueError, self._av.FFmpegError) as exc:
            self._failed = True
            raise SinkError(f"{self.name}: the video ends here: {exc}") from exc

    def _encode(self, image: Image.Image, frame: Frame) -> None:
        if self._stream is None:
            self._begun_ns = frame.monotonic_ns
            self._size_wh = (image.width // 2 * 2, image.height // 2 * 2)
            self._stream = self._container.add_stream(CODEC, options={"crf": CRF, "preset": PRESET})
            self._stream.width, self._stream.height = self._size_wh
            self._stream.pix_fmt, self._stream.time_base = "yuv420p", TIME_BASE
            self._stream.codec_context.time_base = TIME_BASE
        if image.size != self._size_wh:
            image = image.resize(self._size_wh)
        at_ms = frame.media_s * 1e3 if frame.media_s is not None else None
        if at_ms is None:
            at_ms = (frame.monotonic_ns - self._begun_ns) / 1e6
        self._last_ms = max(round(at_ms), self._last_ms + 1)
        picture = self._av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        picture.pts, picture.time_base = self._last_ms, TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Draw the last frame and end the file; may be called twice.

        Raises:
            SinkError: it cannot be written.
        """
        if self._container is None:
            return
        try:
            self._draw()
            if self._stream is not None and not self._failed:
                self._container.mux(self._stream.encode(None))
        finally:
            container, self._container = self._container, None
            container.close()


def annotated(
    image_rgb: UInt8, text: str, states: tuple[str, ...] = (), *, fresh: bool = False
) -> Image.Image:
    """A picture of at most ``LONGEST_PX`` with an answer at its foot.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.
        text: the answer.
        states: names of the states that are on.
        fresh: the answer is about this very frame.
    """
    image = Image.fromarray(image_rgb)
    image.thumbnail((LONGEST_PX, LONGEST_PX))
    size = max(11, image.height // 28)
    font = ImageFont.load_default(size)
    lines = textwrap.wrap(text, max(8, round(image.width / size * 1.7)))[:LINES]
    pen = ImageDraw.Draw(image, "RGBA")
    step = round(size * 1.3)
    top = image.height - step * len(lines) - size // 2
    if lines:
        pen.rectangle((0, top, image.width, image.height), _PAPER)
    for n, line in enumerate(lines):
        pen.text((size // 2, top + size // 4 + n * step), line, _FRESH if fresh else _INK, font)
    if states:
        label = ", ".join(states)
        pen.rectangle((0, 0, pen.textlength(label, font) + size, step + size // 2), _PAPER)
        pen.text((size // 2, size // 4), label, _ALARM, font)
    return image
