"""A recording in place of a source and a gate: the same frames, the same decisions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from edgevlm.errors import ContractError, SourceError
from edgevlm.event import GateTotals
from edgevlm.frame import ArrayPixels, Frame, Pixels, SourceFault, UInt8
from edgevlm.runtime.stream.accounting import Account
from edgevlm.runtime.stream.gates.chain import Decided
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.recording.format import (
    Dropped,
    Gated,
    Reported,
    Seen,
    picture_path,
    read_decisions,
)


@dataclass(frozen=True, slots=True)
class PicturePixels:
    """Pixels of a recorded picture, read when they are asked for.

    Args:
        path: of a PNG without loss.
        size_wh: width and height in pixels.
    """

    path: Path
    size_wh: tuple[int, int]

    def rgb(self) -> UInt8:
        """The picture as uint8 RGB ``(height, width, 3)``.

        Raises:
            SourceError: it is missing, damaged or of another size.
        """
        try:
            with Image.open(self.path) as picture:
                array = np.asarray(picture.convert("RGB"))
        except OSError as exc:
            raise SourceError(f"{self.path} cannot be read: {exc}") from exc
        if array.shape[1::-1] != self.size_wh:
            raise SourceError(f"{self.path} is {array.shape[1::-1]}, recorded was {self.size_wh}")
        return array

    def luma(self) -> UInt8:
        """Its brightness."""
        return ArrayPixels(self.rgb()).luma()


@dataclass(frozen=True, slots=True)
class NotKept:
    """The size of a frame whose pixels were not recorded, as nobody asked about them."""

    size_wh: tuple[int, int]

    def rgb(self) -> UInt8:
        """Not there.

        Raises:
            ContractError: always.
        """
        raise ContractError("the pixels of a frame whose answer was reused are not recorded")

    def luma(self) -> UInt8:
        """Not there; raises as ``rgb``."""
        return self.rgb()


class Playback:
    """Gives a stream what it saw and decided before.

    Args:
        folder: the recording.
        account: of the stream that is played.
    """

    def __init__(self, folder: Path, account: Account) -> None:
        self._folder = folder
        self._account = account
        self._decided = Decided()
        self._gates: tuple[GateTotals, ...] = ()

    def items(self) -> Iterator[Frame | SourceFault]:
        """The frames that the stream looked at, and what the source reported.

        Raises:
            SourceError: the recording is damaged.
        """
        for decision in read_decisions(self._folder):
            if isinstance(decision, Dropped):
                self._account.read += decision.count
                self._account.drop(decision.reason, decision.count)
            elif isinstance(decision, Reported):
                yield SourceFault(code=decision.code, message=decision.message)
            elif isinstance(decision, Gated):
                self._gates = decision.gates
            else:
                self._account.read += 1
                do: Literal["reuse", "answer"] = "reuse" if decision.do == "reuse" else "answer"
                self._decided = Decided(do, asks=decision.asks)
                yield self._frame(decision)

    def _frame(self, seen: Seen) -> Frame:
        pixels: Pixels = NotKept(seen.size_wh)
        if seen.do != "reuse":
            pixels = PicturePixels(picture_path(self._folder, seen.index), seen.size_wh)
        return Frame(
            index=seen.index,
            pixels=pixels,
            captured_ns=seen.captured_ns,
            monotonic_ns=seen.monotonic_ns,
            media_s=seen.media_s,
            clock=seen.clock,
            frame_id=seen.frame_id,
        )

    def newest(self) -> None:
        """Nothing comes in behind the frame that is looked at."""

    def newer(self) -> None:
        """The frame that was looked at is the one."""

    def decide(self, _view: View) -> Decided:
        """What was decided about the frame."""
        return self._decided

    def moved_on(self, _frame: Frame) -> bool:
        """No frame is later."""
        return False

    def accept(self) -> None:
        """Nothing is compared."""

    def totals(self) -> tuple[GateTotals, ...]:
        """What the gates did when the run was recorded."""
        return self._gates

    def close(self) -> None:
        """Nothing is open."""
