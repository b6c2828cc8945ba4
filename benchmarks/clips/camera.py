"""What a camera does to a scene: noise, flicker, exposure, light, vibration, compression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from edgevlm.frame import UInt8

_BANKS, _ROOM = 4, 64  # noise is cut out of this many fields, at places up to this far apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """Faults of one camera; zeros are none.

    Args:
        seed: of everything random.
        noise: standard deviation of a pixel in grey levels, each channel for itself.
        flicker: half the swing of brightness under mains light, as a fraction.
        flicker_hz: how often it swings, as the camera samples it.
        exposure_every_s: mean time between two jumps of the exposure.
        exposure: largest jump, as a fraction.
        drift: change of the light over ``drift_s``, as a fraction, back and forth.
        drift_s: how long it takes there.
        warmer: how much more red follows the drift than blue, as a fraction of it.
        shake_px: standard deviation of a vibration.
        codec: how frames are compressed.
        quality: crf of H.264, quantiser scale of Motion JPEG.
    """

    seed: int
    noise: float = 2.0
    flicker: float = 0.0
    flicker_hz: float = 0.0
    exposure_every_s: float = 0.0
    exposure: float = 0.0
    drift: float = 0.0
    drift_s: float = 60.0
    warmer: float = 0.0
    shake_px: float = 0.0
    codec: Literal["h264", "mjpeg"] = "h264"
    quality: int = 26

    def film(self, pictures: Iterable[UInt8], fps: float) -> Iterator[UInt8]:
        """The same frames as a sensor gives them, uint8 RGB, before compression."""
        rng = np.random.default_rng([self.seed, 77])
        banks: list[NDArray[np.float32]] = []
        level = 1.0
        for index, picture in enumerate(pictures):
            if not banks:
                height, width = picture.shape[:2]
                shape = height + _ROOM, width + _ROOM, 3
                banks = [rng.standard_normal(shape, np.float32) for _ in range(_BANKS)]
            time_s = index / fps
            if self.exposure_every_s and rng.random() < 1 / (self.exposure_every_s * fps):
                level = 1 + float(rng.uniform(-self.exposure, self.exposure))
            swing = self.flicker * np.sin(2 * np.pi * self.flicker_hz * time_s)
            light = self.drift * (1 - np.cos(np.pi * time_s / self.drift_s)) / 2
            tint = np.array(
                [1 - light * (1 - self.warmer), 1 - light, 1 - light * (1 + self.warmer)]
            )
            gain = (level * (1 + swing) * tint).astype(np.float32)
            if self.shake_px:
                picture = _shifted(picture, rng.normal(0, self.shake_px, 2))
            top, left = (int(n) for n in rng.integers(0, _ROOM, 2))
            height, width = picture.shape[:2]
            field = banks[rng.integers(_BANKS)][top : top + height, left : left + width]
            seen = picture * gain
            seen += self.noise * field
            seen += 0.5
            yield np.clip(seen, 0, 255, out=seen).astype(np.uint8)

    def record(self, pictures: Iterable[UInt8], fps: float, target: Path) -> None:
        """Film and compress into a Matroska file, frame by frame, without reordering."""
        rate = Fraction(fps).limit_denominator(1000)
        with av.open(str(target), "w", format="matroska", options={"fflags": "+bitexact"}) as out:
            stream = None
            for index, picture in enumerate(self.film(pictures, fps)):
                if stream is None:
                    stream = self._stream(out, rate, picture.shape)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, 1 / rate
                out.mux(stream.encode(frame))
            if stream is not None:
                out.mux(stream.encode(None))

    def _stream(self, out: Any, rate: Fraction, shape: tuple[int, ...]) -> Any:
        if self.codec == "h264":
            # As cameras are set: a key frame every five seconds, no frames from the future.
            options = {
                "crf": str(self.quality), "preset": "veryfast", "bf": "0", "threads": "1",
                "g": str(round(5 * rate)), "sc_threshold": "0",
            }  # fmt: skip
            stream = out.add_stream("libx264", rate=rate, options=options)
            stream.pix_fmt = "yuv420p"
        else:
            quality = str(self.quality)
            stream = out.add_stream(
                "mjpeg", rate=rate, options={"qmin": quality, "qmax": quality, "threads": "1"}
            )
            stream.pix_fmt = "yuvj420p"
        stream.height, stream.width = shape[:2]
        return stream


def _shifted(picture: UInt8, by_xy: NDArray[np.float64]) -> UInt8:
    matrix = np.array([[1, 0, by_xy[0]], [0, 1, by_xy[1]]], np.float32)
    size = picture.shape[1], picture.shape[0]
    moved: UInt8 = cv2.warpAffine(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved
