"""A USB or built-in camera, read by OpenCV."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevlm.errors import ConfigError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import arrived
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.pixels import CvPixels
from edgevlm.runtime.stream.sources.uri import redact

FAILED_READS = 3  # in a row; V4L2 waits up to 10 s for each before it gives up
PAUSE_S = 0.05
_URI = re.compile(r"(?:v4l2:///dev/video)?([0-9]{1,3})")


class CameraSource:
    """The frames of a local camera, as they come.

    Args:
        uri: ``0`` or ``v4l2:///dev/video0``.
        clock: stamps frames.

    Raises:
        ConfigError: another form of URI.
        SourceUnavailable: no such camera, no permission, or in use.
    """

    live = True

    def __init__(self, uri: str, clock: Clock = SYSTEM) -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise ConfigError(f"a camera is 0 or v4l2:///dev/video0, got {redact(uri)!r}")
        import cv2

        number = int(match[1])
        self.name = f"/dev/video{number}"
        self._clock = clock
        # OpenCV writes to stderr what we say in the error.
        silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # 4 or 5
        silence(0)
        linux = sys.platform.startswith("linux")
        self._capture: Any = cv2.VideoCapture(number, cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
        self._native = Native(self._capture.release)
        if not self._capture.isOpened():
            self.close()
            raise SourceUnavailable(f"camera {self.name} cannot be opened: {_remedy(self.name)}")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest

    def frames(self) -> Iterator[Frame | BadFrame]:
        """Yield frames as they come.

        Raises:
            SourceStalled: the camera failed to deliver several times in a row.
        """
        index, failed = 0, 0
        try:
            while (picture := self._native.use(self._read)) is not None:
                if picture is False:
                    failed += 1
                    if failed >= FAILED_READS:
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
                    yield arrived(self._clock, index, CvPixels(picture, "bgr"), None)
                index += 1
        finally:
            self.close()

    def close(self) -> None:
        """Release the camera; a read under way ends when OpenCV's wait for a frame does."""
        self._native.close()

    def _read(self) -> Any:
        """A BGR array, a reason if it cannot be decoded, False if nothing came."""
        if not self._capture.grab():
            return False
        whole, image = self._capture.retrieve()
        return image if whole and image is not None and image.size else "undecodable picture"


def _remedy(name: str) -> str:
    if not Path(name).exists():
        return "no such device; `ls /dev/video*` shows the cameras of this machine"
    if not os.access(name, os.R_OK | os.W_OK):
        return "permission denied; `sudo usermod -aG video $USER`, then log in again"
    return f"it is no capture device, or in use; `fuser -v {name}` shows by whom"
