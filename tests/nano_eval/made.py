"""Pictures of which everything is known, made without any package."""

from __future__ import annotations

import numpy as np

from edgevlm.export.nano_data.composition import Box
from edgevlm.export.nano_data.picture import Picture, SeenThing

SIDE = 100


def thing(name: str, box: Box, colour: str | None = None) -> SeenThing:
    """A thing that fills its box."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return SeenThing(name=name, group="animals", colour=colour, box_xyxy=box, mask=mask)


def picture(*things: SeenThing) -> Picture:
    """A black picture with these in it."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    return Picture(image_rgb=pixels, family="cut-outs", scene="made", things=things)


LEFT, RIGHT = (10, 40, 30, 60), (70, 40, 90, 60)
