"""What a stream may use at most while the machine is under pressure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.frame import UInt8


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds beside a stream's own settings; None bounds nothing.

    Args:
        rate_hz: frames looked at a second.
        max_tokens: of an answer.
        max_side: pixels of a frame's longer side before it is encoded.
        together: several questions may be decoded side by side.
        why: in words, for events; empty where nothing is bounded.
    """

    rate_hz: float | None = None
    max_tokens: int | None = None
    max_side: int | None = None
    together: bool = True
    why: str = ""

    def tokens(self, own: int) -> int:
        """The budget of an answer that has ``own`` otherwise."""
        return own if self.max_tokens is None else min(own, self.max_tokens)

    def rate(self, own_hz: float | None) -> float | None:
        """The rate of a stream that has ``own_hz`` otherwise."""
        given = [hz for hz in (own_hz, self.rate_hz) if hz is not None]
        return min(given, default=None)

    def fit(self, rgb: UInt8) -> UInt8:
        """The frame at the size that is allowed, uint8 ``(height, width, 3)``."""
        height, width = rgb.shape[:2]
        if self.max_side is None or max(height, width) <= self.max_side:
            return rgb
        import cv2

        scale = self.max_side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


UNCAPPED = Caps()


class Capped:
    """The caps that hold now, for all streams; changed as a whole."""

    def __init__(self) -> None:
        self.now = UNCAPPED
