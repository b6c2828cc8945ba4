"""One picture's patches, and where each lies in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import Fit
from edgevlm.errors import ContractError
from edgevlm.runtime.model.matching import Patches
from edgevlm.runtime.model.pictures.placement import Placement, placed
from edgevlm.runtime.model.vlm import Vlm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A picture as patches.

    Args:
        patches: of the picture; those of the border around it are left out.
        grid: rows and columns of the encoder's whole input.
        cell: height and width of a patch, in pixels of the input.
        placement: of the picture in the input.
        source: height and width of the picture as it came.
    """

    patches: Patches
    grid: tuple[int, int]
    cell: tuple[float, float]
    placement: Placement
    source: tuple[int, int]

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """A value a patch as a map float32 ``grid``, NaN beside the picture."""
        found = np.full(self.grid, np.nan, np.float32)
        found[tuple(self.patches.places.T)] = values
        return found

    def boxes(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """Boxes of cells in pixels of the picture.

        Args:
            cells: int64 ``(n, 4)``: first column, first row, and one behind the last of each.

        Returns:
            float64 ``(n, 4)``: left, top, right, bottom.
        """
        height, width = self.cell
        inside = np.asarray(cells, np.float64) * np.array([width, height] * 2)
        found: NDArray[np.float64] = self.placement.to_picture(inside, self.source)
        return found


def see(model: Vlm, image: Any) -> Seen:
    """One pass of the encoder.

    Args:
        model: a loaded bundle with the head ``heads/match``.
        image: a picture, as in ``Vlm.ask``, or what ``Vlm.encode`` gave for it.

    Raises:
        ContractError: the bundle has no such head, or cuts pictures into tiles.
        ImageError: a picture that cannot be taken.
    """
    matcher, image_spec = model.matcher(), model.bundle.manifest.image
    if image_spec is None or not isinstance(image_spec.policy, Fit):
        raise ContractError(f"{model.bundle.manifest.name} cuts pictures into tiles: no one grid")
    policy = image_spec.policy
    encoded = model.encode(image)
    place = placed(policy, encoded.source)
    cell = policy.height / matcher.spec.rows, policy.width / matcher.spec.columns
    patches = matcher.patches(encoded.outputs)
    centres = (patches.places + 0.5) * cell
    scale, corner = (place.scale_y, place.scale_x), (place.top, place.left)
    inside = np.ones(len(patches), bool)
    for axis in (0, 1):
        at = (centres[:, axis] - corner[axis]) / scale[axis]
        inside &= (at >= 0) & (at < encoded.source[axis])
    return Seen(
        patches=patches.chosen(inside),
        grid=(matcher.spec.rows, matcher.spec.columns),
        cell=cell,
        placement=place,
        source=encoded.source,
    )
