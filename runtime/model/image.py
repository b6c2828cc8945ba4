"""Take a picture from wherever it comes, as uint8 RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import ContractError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

UInt8 = NDArray[np.uint8]
ImageLike = "str | os.PathLike[str] | Image | UInt8"
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 64_000_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})


def load_image(
    image: str | os.PathLike[str] | Image | UInt8, alpha: Literal["drop", "white"] = "drop"
) -> UInt8:
    """A picture as uint8 RGB ``(height, width, 3)``.

    Grey, palette, CMYK and 16-bit pictures are converted; EXIF orientation is applied to files
    and PIL images. An array must already be uint8 RGB.

    Args:
        image: a path, a PIL image, or an array.
        alpha: ``drop`` ignores transparency, ``white`` lays the picture over white.

    Raises:
        ImageError: missing, empty, undecodable, or over ``MAX_FILE_BYTES`` or ``MAX_PIXELS``.
        ContractError: anything else than the three kinds, or an array of another shape or dtype.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ContractError(
                "an image array must be uint8 RGB (height, width, 3), "
                f"got {image.dtype} {image.shape}"
            )
        if image.shape[0] * image.shape[1] > MAX_PIXELS:
            raise ImageError(f"the array has more than {MAX_PIXELS} pixels: {image.shape}")
        return image
    if isinstance(image, str | os.PathLike):
        return _from_file(Path(image), alpha)
    from PIL import Image as pil

    if not isinstance(image, pil.Image):
        raise ContractError(
            "an image must be a path, a PIL image or a uint8 RGB array (height, width, 3), "
            f"got {type(image).__name__}"
        )
    with _decoding("the image"):
        return _to_rgb(image, alpha, "the image")


def _from_file(path: Path, alpha: Literal["drop", "white"]) -> UInt8:
    from PIL import Image as pil

    if not path.is_file():
        raise ImageError(f"{path} does not exist or is not a file")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path} is empty (0 bytes)")
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path} has {size} bytes; the cap is {MAX_FILE_BYTES}: shrink it first")
    with _decoding(str(path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own cap below decides, not Pillow's warning
        with pil.open(path) as opened:
            return _to_rgb(opened, alpha, str(path))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except Exception as exc:  # Pillow's decoders raise whatever the file provokes
        raise ImageError(f"{name} cannot be decoded as an image: {exc}") from exc


def _to_rgb(opened: Image, alpha: Literal["drop", "white"], name: str) -> UInt8:
    from PIL import Image as pil
    from PIL import ImageOps

    width, height = opened.size
    if width * height == 0 or width * height > MAX_PIXELS:
        raise ImageError(f"{name} has {width}x{height} pixels; the cap is {MAX_PIXELS}")
    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):  # 16-bit grey, in 16 or 32 bits
        wide = np.asarray(upright).astype(np.int64)
        grey = np.clip(wide // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.mode == "F":
        raise ImageError(f"{name} holds float pixels, whose range is unknown; save it as 8 bit")
    transparent = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
    if alpha == "white" and transparent:
        layer = upright.convert("RGBA")
        base = pil.new("RGBA", layer.size, (255, 255, 255, 255))
        upright = pil.alpha_composite(base, layer)
    return np.asarray(upright.convert("RGB"))
