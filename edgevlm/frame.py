"""A frame and its identity: what every source yields and every event refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, Union

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import ContractError

UInt8 = NDArray[np.uint8]
Clock = Literal["arrival", "pts", "header", "sender"]
SourceFaultCode = Literal[
    "source",  # it cannot be opened, or failed
    "stall",  # it stopped delivering
    "auth",  # it wants other credentials
    "recovered",  # it delivers again; of a model: it answers again
    "format_changed",  # another size, pixel format or codec from here on
    "discontinuity",  # time stamps went back or jumped
    "damaged",  # some of it could not be read
    "spool_full",  # it is held back until frames are answered
    "qos_incompatible",  # a ROS 2 publisher that this subscriber cannot hear
]


class Pixels(Protocol):
    """Pixels that convert on demand, so that a gate on luma never pays for RGB."""

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def rgb(self) -> UInt8:
        """The picture as uint8 RGB ``(height, width, 3)``."""
        ...

    def luma(self) -> UInt8:
        """The brightness plane as uint8 ``(height, width)``; may share the decoder's memory."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayPixels:
    """Pixels that are already an RGB array.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.

    Raises:
        ContractError: another dtype or shape, or an empty picture.
    """

    image_rgb: UInt8

    def __post_init__(self) -> None:
        a = self.image_rgb
        if a.dtype != np.uint8 or a.ndim != 3 or a.shape[2] != 3 or 0 in a.shape:
            raise ContractError(
                f"a frame must be uint8 RGB (height, width, 3), got {a.dtype} {a.shape}"
            )

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image_rgb.shape[1], self.image_rgb.shape[0]

    def rgb(self) -> UInt8:
        """The array itself."""
        return self.image_rgb

    def luma(self) -> UInt8:
        """BT.601 luma, in integers: ``(77 R + 150 G + 29 B) / 256``."""
        weights = np.array([77, 150, 29], np.uint16)
        return (self.image_rgb.astype(np.uint16) @ weights >> 8).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of a source, with the identity that travels with it to the answer.

    Args:
        index: position in the source, from 0, counting every frame it delivered.
        pixels: the picture, converted on demand.
        captured_ns: wall clock, nanoseconds since the Unix epoch.
        monotonic_ns: monotonic clock when the frame reached this process; ages count from here.
        media_s: position in the source in seconds, where the source has positions.
        clock: what ``captured_ns`` was read from.
        frame_id: coordinate frame of a ROS header, or another name of the sensor.

    Raises:
        ContractError: a negative index or time.
    """

    index: int
    pixels: Pixels
    captured_ns: int
    monotonic_ns: int
    media_s: float | None = None
    clock: Clock = "arrival"
    frame_id: str | None = None

    def __post_init__(self) -> None:
        if self.index < 0 or self.captured_ns < 0 or self.monotonic_ns < 0:
            raise ContractError(
                "a frame's index and times must not be negative, got "
                f"{self.index}, {self.captured_ns}, {self.monotonic_ns}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFrame:
    """A frame that the source delivered and that could not be decoded."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFault:
    """Something went wrong, or is well again, and the source goes on. It counts as no frame."""

    code: SourceFaultCode
    message: str


FrameItem = Union[Frame, BadFrame, SourceFault]  # noqa: UP007 - an alias on 3.10


class FrameSource(Protocol):
    """Where frames come from.

    ``frames`` is called once. A live source (``live`` is True) delivers at its own pace and is
    read on a thread of its own; any other is read by the consumer, frame by frame.
    """

    @property
    def name(self) -> str:
        """A printable name, without credentials."""
        ...

    @property
    def live(self) -> bool:
        """True if frames keep coming whether or not somebody reads them."""
        ...

    def frames(self) -> Iterator[FrameItem]:
        """Yield frames in order; raise SourceError when the source fails."""
        ...

    def close(self) -> None:
        """Release the source. Legal in every state, from any thread, any number of times."""
        ...
