"""A USB or built-in camera, read by OpenCV."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.errors import ConfigError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, FrameItem, SourceFault, UInt8
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import arrived
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.pixels import CvPixels
from edgevlm.runtime.stream.sources.reconnect import Backoff, ReconnectingSource
from edgevlm.runtime.stream.sources.uri import redact

FAILED_READS = 3  # in a row
LONG_READ_S = 5.0  # V4L2 waits 10 s for a picture: one read that fails after so long is enough
PAUSE_S = 0.05
LOOK_S = 5.0  # between looks for a camera that is not there, so that it is back within ten
FROZEN_S = 10.0  # the very same picture for so long: no sensor is that quiet
DEV = Path("/dev")
_URI = re.compile(r"(?:v4l2:///dev/video)?([0-9]{1,3})")
_LINK = re.compile(r"v4l2:///dev/(v4l/by-(?:id|path)/(?!\.)[\w.:+@-]+)")


class CameraSource:
    """The frames of a local camera, as they come.

    A driver that repeats its last picture bit for bit is reported (``stall``); whether its device
    is still there decides if that is the end.

    Args:
        uri: ``0``, ``v4l2:///dev/video0``, or a name that stays the same wherever the camera is
            plugged in next: ``v4l2:///dev/v4l/by-id/NAME``, ``v4l2:///dev/v4l/by-path/NAME``.
        clock: stamps frames.
        watch: told of every picture's format; one of its own when None.
        dev: where devices are.

    Raises:
        ConfigError: another form of URI.
        SourceUnavailable: no such camera, no permission, or in use.
    """

    live = True

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        watch: FormatWatch | None = None,
        dev: Path = DEV,
    ) -> None:
        self._device = device_of(uri, dev)
        self.name = str(self._device)
        self._clock = clock
        self._watch = watch or FormatWatch(self.name)
        number = re.fullmatch(r"video([0-9]{1,3})", self._device.resolve().name)
        if number is None:
            raise SourceUnavailable(f"camera {self.name} cannot be opened: {_remedy(self._device)}")
        import cv2

        # OpenCV writes to stderr what we say in the error.
        silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # 4 or 5
        silence(0)
        linux = sys.platform.startswith("linux")
        self._capture: Any = cv2.VideoCapture(
            int(number[1]), cv2.CAP_V4L2 if linux else cv2.CAP_ANY
        )
        self._native = Native(self._capture.release)
        if not self._capture.isOpened():
            self.close()
            raise SourceUnavailable(f"camera {self.name} cannot be opened: {_remedy(self._device)}")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest

    def frames(self) -> Iterator[FrameItem]:
        """Yield frames as they come.

        Raises:
            SourceStalled: the camera failed to deliver, or is gone behind a picture that repeats.
        """
        frozen = _Frozen()
        index, failed = 0, 0
        try:
            while True:
                began_ns = self._clock.monotonic_ns()
                if (picture := self._native.use(self._read)) is None:
                    return
                now_ns = self._clock.monotonic_ns()
                if picture is False:
                    failed += 1
                    if failed >= FAILED_READS or now_ns - began_ns >= LONG_READ_S * 1e9:
                        raise SourceStalled(
                            f"camera {self.name} delivers no frame ({failed} failed reads); "
                            "was it unplugged?"
                        )
                    self._clock.sleep(PAUSE_S)
                    continue
                failed = 0
                if isinstance(picture, str):
                    yield BadFrame(index=index, reason=picture)
                else:
                    if frozen.noticed(picture, now_ns):
                        yield from self._frozen()
                    pixels = CvPixels(picture, "bgr")
                    if fault := self._watch.fault(pixels.size_wh, "bgr24"):
                        yield fault
                    yield arrived(self._clock, index, pixels, None)
                index += 1
        finally:
            self.close()

    def _frozen(self) -> Iterator[FrameItem]:
        what = f"camera {self.name} has repeated one picture, bit for bit, for {FROZEN_S:g} s"
        if not self._device.exists():
            raise SourceStalled(f"{what}, and its device is gone")
        yield SourceFault(code="stall", message=what)

    def close(self) -> None:
        """Release the camera; a read under way ends when OpenCV's wait for a frame does."""
        self._native.close()

    def _read(self) -> Any:
        """A BGR array, a reason if it cannot be decoded, False if nothing came."""
        if not self._capture.grab():
            return False
        whole, image = self._capture.retrieve()
        return image if whole and image is not None and image.size else "undecodable picture"


class _Frozen:
    """Notices once that a picture has repeated for ``FROZEN_S``."""

    def __init__(self) -> None:
        self._last: UInt8 | None = None
        self._since_ns = 0
        self._said = False

    def noticed(self, picture: UInt8, now_ns: int) -> bool:
        sample = picture[::16, ::16].copy()
        if self._last is None or not np.array_equal(sample, self._last):
            self._last, self._since_ns, self._said = sample, now_ns, False
        if self._said or now_ns - self._since_ns < FROZEN_S * 1e9:
            return False
        self._said = True
        return True


def device_of(uri: str, dev: Path = DEV) -> Path:
    """The device, or the link to one, that ``uri`` names.

    Raises:
        ConfigError: another form of URI.
    """
    if link := _LINK.fullmatch(uri):
        return dev / link[1]
    if number := _URI.fullmatch(uri):
        return dev / f"video{int(number[1])}"
    raise ConfigError(
        f"a camera is 0, v4l2:///dev/video0 or v4l2:///dev/v4l/by-id/NAME, got {redact(uri)!r}"
    )


def stable(device: Path, dev: Path = DEV) -> str:
    """The URI that finds the camera behind ``device`` again: by serial number, port or number."""
    for folder in ("by-id", "by-path"):
        links = sorted((dev / "v4l" / folder).glob("*"))
        for link in links:
            if link.resolve() == device.resolve():
                return f"v4l2:///dev/v4l/{folder}/{link.name}"
    return f"v4l2:///dev/{device.name}"


def plugged(uri: str, clock: Clock = SYSTEM, dev: Path = DEV) -> ReconnectingSource:
    """A camera that may be unplugged and plugged in again, as another number too.

    A number must be there at the start, because it says nothing of which camera is meant; one
    that is named by its link is waited for.

    Raises:
        ConfigError: another form of URI.
        SourceUnavailable: a number, and no such camera, no permission, or in use.
    """
    device = device_of(uri, dev)
    often = Backoff(longest_s=LOOK_S)
    watch = FormatWatch(str(device))
    if _LINK.fullmatch(uri):
        return ReconnectingSource(
            str(device), partial(CameraSource, uri, clock, watch, dev), clock, backoff=often
        )
    opened = [CameraSource(uri, clock, watch, dev)]
    name = stable(device, dev)

    def connect() -> CameraSource:
        return opened.pop() if opened else CameraSource(name, clock, watch, dev)

    return ReconnectingSource(str(device), connect, clock, opened[0], often)


def _remedy(device: Path) -> str:
    name = str(device)
    if not device.exists():
        return "no such device; `ls /dev/video* /dev/v4l/by-id` shows the cameras of this machine"
    if not os.access(name, os.R_OK | os.W_OK):
        return "permission denied; `sudo usermod -aG video $USER`, then log in again"
    return f"it is no capture device, or in use; `fuser -v {name}` shows by whom"
