"""The captioned cut-out photographs of Debian's tuxpaint-stamps-default, split by identity.

The package is GPL-2 and stays where apt put it: nothing of it is copied here. Which half a stamp
belongs to follows from its path alone, so that no change of a list or a seed moves one from
evaluation into training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from edgevlm.errors import ExportError
from edgevlm.export.nano_data.captions import name_in
from edgevlm.frame import UInt8

PACKAGE = "tuxpaint-stamps-default"
FOLDER = Path("/usr/share/tuxpaint/stamps")
HELD_OUT_ONE_IN = 5
_VARIANTS = ("_mirror", "_flip")  # a stamp turned over: the same identity under another path
_DRAWINGS = ("symbols/", "cartoon")
_SIDE_AT_LEAST = 40  # pixels of the longer side: smaller ones show nothing when enlarged
_SOLID_AT_LEAST = 0.15  # share of a stamp's rectangle that it covers


@dataclass(frozen=True, slots=True)
class Stamp:
    """One photograph on a transparent ground.

    Args:
        folder: where the stamps lie.
        path: below the folder, with ``/``; the stamp's identity.
        name: of the thing, without article, in lower case.
    """

    folder: Path
    path: str
    name: str

    @property
    def kind(self) -> str:
        """The top folder: ``animals``, ``food``, ``vehicles`` ..."""
        return self.path.split("/", 1)[0]

    @property
    def held_out(self) -> bool:
        """Whether it is kept for evaluation."""
        return is_held_out(self.path)

    def rgba(self) -> UInt8:
        """Its pixels, cropped to what is not transparent, uint8 ``(height, width, 4)``."""
        return _pixels(self.folder / self.path)


def is_held_out(path: str) -> bool:
    """True for a stamp that no training, calibration or prompt tuning may see.

    Args:
        path: below the stamps folder, with ``/``.
    """
    return int(hashlib.sha256(path.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def training_stamps(folder: Path = FOLDER) -> tuple[Stamp, ...]:
    """Every usable stamp that is not held out, in the order of their paths.

    Raises:
        ExportError: the package is not installed.
    """
    return tuple(stamp for stamp in _usable(folder) if not stamp.held_out)


def held_out_stamps(folder: Path = FOLDER) -> tuple[Stamp, ...]:
    """The stamps that are kept for evaluation; nothing that learns may call this.

    Raises:
        ExportError: the package is not installed.
    """
    return tuple(stamp for stamp in _usable(folder) if stamp.held_out)


@lru_cache(maxsize=2)
def _usable(folder: Path) -> tuple[Stamp, ...]:
    """Photographs, no symbols and no cartoons, whose caption names one thing."""
    paths = sorted(folder.rglob("*.png")) if folder.is_dir() else []
    if not paths:
        raise ExportError(f"no stamps in {folder}: apt-get install {PACKAGE}")
    found = []
    for file in paths:
        path = file.relative_to(folder).as_posix()
        if file.stem.endswith(_VARIANTS) or any(word in path for word in _DRAWINGS):
            continue
        caption = file.with_suffix(".txt")
        name = name_in(_first_line(caption)) if caption.is_file() else None
        if name is not None and _cut_out(file):
            found.append(Stamp(folder, path, name))
    return tuple(found)


def _first_line(file: Path) -> str:
    return file.read_text("utf-8", errors="replace").partition("\n")[0].strip()


def _cut_out(file: Path) -> bool:
    """Whether a stamp is large enough, and neither a thin outline nor a full rectangle."""
    with Image.open(file) as image:
        if max(image.size) < _SIDE_AT_LEAST:
            return False
        alpha = image.convert("RGBA").getchannel("A")
        alpha.thumbnail((64, 64))
    solid = float(np.mean(np.asarray(alpha) > 127))
    return _SOLID_AT_LEAST <= solid < 1


@lru_cache(maxsize=128)
def _pixels(file: Path) -> UInt8:
    with Image.open(file) as opened:
        image = opened.convert("RGBA")
    box = image.getchannel("A").point(lambda value: 255 if value > 127 else 0).getbbox()
    image = image.crop(box)
    image.thumbnail((512, 512), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    pixels.setflags(write=False)
    return pixels
