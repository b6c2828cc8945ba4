"""Pictures of what was found: a heat map or labels over the picture, and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edgevlm.errors import ConfigError
from edgevlm.runtime.perception.anomaly import Anomaly

UInt8 = NDArray[np.uint8]
BOXES = 8  # drawn
_SIZE, _WIDTH = 15, 3
_BOX, _INK = (255, 40, 40), (255, 255, 255)
_STRONGEST = 0.6  # of a colour over the picture
PALETTE = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (250, 190, 190), (0, 128, 128), (170, 110, 40), (128, 128, 0),
)  # fmt: skip


def heat(picture: UInt8, found: Anomaly) -> UInt8:
    """The picture, redder the more unlike it is, with a box around every region over the limit.

    Args:
        picture: uint8 RGB ``(height, width, 3)``, the one that was looked at.
        found: from ``anomaly``.
    """
    share = np.nan_to_num(found.map, nan=0.0) / max(found.threshold, 1e-9)
    fine = stretched(np.clip(share - 0.5, 0, 1).astype(np.float32), found, picture)
    strength = (_STRONGEST * fine)[..., None]
    tinted = picture * (1 - strength) + np.array(_BOX, np.float32) * strength
    return boxed(np.rint(tinted).astype(np.uint8), found.regions)


def stretched(values: NDArray[np.float32], found: Anomaly, picture: UInt8) -> NDArray[np.float32]:
    """A map over the encoder's input, at the picture's own resolution."""
    import cv2

    height, width = picture.shape[:2]
    place, (tall, wide) = found.seen.placement, found.seen.cell
    across = np.array([
        [place.scale_x / wide, 0, (place.left + place.scale_x / 2) / wide - 0.5],
        [0, place.scale_y / tall, (place.top + place.scale_y / 2) / tall - 0.5],
    ])  # fmt: skip
    return np.asarray(
        cv2.warpAffine(
            values,
            across,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


class Scored(Protocol):
    """A box with a score."""

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """In pixels of the picture."""
        ...

    @property
    def score(self) -> float:
        """Written beside it."""
        ...


def boxed(picture: UInt8, regions: Sequence[Scored], names: Sequence[str] = ()) -> UInt8:
    """The picture with boxes, and with a name and a score at each."""
    drawn = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(_SIZE)
    for number, region in list(enumerate(regions))[:BOXES]:
        left, top, right, bottom = region.box_xyxy
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=_BOX,
                      width=_WIDTH)  # fmt: skip
        said = f"{names[number]} {region.score:.2f}" if names else f"{region.score:.2f}"
        place = (left + _WIDTH, max(0.0, top - _SIZE - _WIDTH))
        around = pen.textbbox(place, said, font)
        pen.rectangle(around, fill=_BOX)
        pen.text(place, said, _INK, font)
    return np.asarray(drawn)


def coloured(picture: UInt8, label_map: NDArray[np.int64], labels: Sequence[str]) -> UInt8:
    """The picture with every label's colour over it, and a legend.

    Args:
        picture: uint8 RGB ``(height, width, 3)``.
        label_map: int64 ``(height, width)``, numbers of labels.
        labels: their names.
    """
    colours = np.array([PALETTE[n % len(PALETTE)] for n in range(len(labels))], np.float32)
    mixed = picture * (1 - _STRONGEST / 1.5) + colours[label_map] * (_STRONGEST / 1.5)
    drawn = Image.fromarray(np.rint(mixed).astype(np.uint8))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(_SIZE)
    for n in np.unique(label_map)[: len(PALETTE)]:
        place = (_WIDTH, _WIDTH + int(np.searchsorted(np.unique(label_map), n)) * (_SIZE + 4))
        pen.rectangle(pen.textbbox(place, labels[n], font), fill=PALETTE[int(n) % len(PALETTE)])
        pen.text(place, labels[n], _INK, font)
    return np.asarray(drawn)


def save(picture: UInt8, path: Path) -> None:
    """Write a picture; the ending chooses the format.

    Raises:
        ConfigError: an ending that Pillow does not know.
        OSError: the place cannot be written.
    """
    try:
        Image.fromarray(picture).save(path)
    except ValueError as exc:
        raise ConfigError(f"-o {path}: {exc}; endings such as .png and .jpg are known") from exc
