"""Points and boxes of the parity probe, and the masks that the graphs make of them."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.runtime.model.mask_prompts import prompt_arrays
from edgevlm.runtime.model.perception import Perception
from edgevlm.runtime.model.pictures.placement import placed_by
from edgevlm.runtime.model.vision import Encoded
from edgevlm.tensors import Array

# As parts of the picture: a point alone, one inside and one outside, and a box.
POINTS = [[(0.4, 0.55)], [(0.81, 0.23), (0.13, 0.9)]]
LABELS = [[1], [1, 0]]
BOX = (0.17, 0.3, 0.66, 0.83)
KINDS = ("points", "boxes")


def write_mask_inputs(case: ProbeCase, encoded: Encoded, image: ImageSpec | None) -> None:
    """Write what the mask decoder takes: ``mask.KIND.points`` and ``mask.KIND.labels``.

    Args:
        case: of one picture.
        encoded: that picture.
        image: how it reached the encoder.
    """
    height, width = encoded.source
    extent = encoded.extent or (height, width)
    points = [[(x * width, y * height) for x, y in prompt] for prompt in POINTS]
    boxes = np.array([BOX]) * [width, height, width, height]
    place, _ = placed_by(image, encoded.source)
    given = {
        "points": prompt_arrays(points, LABELS, None, place),
        "boxes": prompt_arrays(None, None, boxes, place),
    }
    for kind, (where, labels) in given.items():
        case.save(f"mask.{kind}.points", where)
        case.save(f"mask.{kind}.labels", labels)
    case.save("extent", np.array(extent, np.int64))


def mask_outputs(perception: Perception, case: ProbeCase, encoded: Encoded) -> dict[str, Array]:
    """What the mask decoder makes of a case's prompts, by stage; those of points first."""
    parts = [
        perception.mask_decoder().run(
            encoded.outputs["image_embeddings"],
            case.load(f"mask.{kind}.points"),
            case.load(f"mask.{kind}.labels"),
        )
        for kind in KINDS
    ]
    masks, scores = (np.concatenate(values) for values in zip(*parts, strict=True))
    return {"mask.masks": masks, "mask.scores": scores}
