"""What a camera makes of a drawn scene: light, colour cast, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np

from edgevlm.frame import UInt8


def photographed(image_rgb: UInt8, rng: np.random.Generator) -> UInt8:
    """The picture as one of many cameras would give it; nothing moves by a pixel.

    Args:
        image_rgb: uint8 ``(height, width, 3)``.
        rng: chooses the camera and the light.
    """
    height, width = image_rgb.shape[:2]
    picture = image_rgb.astype(np.float32)
    # Light falls off towards one side.
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    gain = rng.uniform(0.78, 1.15) * (1 + rng.normal(0, 0.03, 3))
    picture *= (1 + fall * (across + down))[..., None] * gain.astype(np.float32)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.9)))
    noise = rng.standard_normal(picture.shape, np.float32)
    picture += np.float32(rng.uniform(0, 6)) * noise
    taken: UInt8 = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.integers(45, 95))
        _, jpeg = cv2.imencode(".jpg", taken[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        taken = np.ascontiguousarray(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))[..., ::-1])
    return taken
