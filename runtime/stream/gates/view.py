"""One frame as gates look at it: what one of them has computed, the others need not."""

from __future__ import annotations

from collections.abc import Callable

from edgevlm.frame import Frame, UInt8
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.gates.cells import Cells, cells_of

Encode = Callable[[UInt8], Encoded]


class View:
    """A frame, its brightness in cells, and its features.

    Args:
        frame: the frame.
        now_s: position of the frame in time, seconds.
        encode: the vision encoder of the model that would answer.
    """

    def __init__(self, frame: Frame, now_s: float, encode: Encode) -> None:
        self.frame = frame
        self.now_s = now_s
        self._encode = encode
        self._cells: Cells | None = None
        self._others: dict[int, Encoded] = {}
        self.encoded: Encoded | None = None

    def cells(self) -> Cells:
        """Brightness of the frame, averaged.

        Raises:
            SourceError: its pixels cannot be read.
        """
        if self._cells is None:
            self._cells = cells_of(self.frame.pixels.luma())
        return self._cells

    def features(self) -> Encoded:
        """The frame as the model's encoder sees it; an answer takes it from here.

        Raises:
            SourceError: its pixels cannot be read.
            BackendError: the engine failed.
        """
        if self.encoded is None:
            self.encoded = self._encode(self.frame.pixels.rgb())
        return self.encoded

    def seen_by(self, model: Vlm) -> Encoded:
        """The frame as the encoder of a gate's own bundle sees it.

        Raises:
            SourceError: its pixels cannot be read.
            BackendError: the engine failed.
        """
        if id(model) not in self._others:
            self._others[id(model)] = model.encode(self.frame.pixels.rgb())
        return self._others[id(model)]

    @property
    def encode_ms(self) -> float:
        """What the encoder took so far; an answer's own stages have it."""
        return 0.0 if self.encoded is None else self.encoded.preprocess_ms + self.encoded.encode_ms
