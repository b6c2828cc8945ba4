"""Where a picture lies in the encoder's input, so that cells of it can be found in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.model.pictures.fit import corner_extent
from edgevlm.runtime.model.pictures.interpolate import bilinear_matrix
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``input = picture * scale + offset``, along each axis.

    Args:
        scale_y: pixels of the input for one of the picture, down.
        scale_x: likewise, across.
        top: row of the input where the picture begins; negative where its edge is cut off.
        left: likewise, the column.
    """

    scale_y: float
    scale_x: float
    top: float
    left: float

    def to_picture(self, boxes_xyxy: Array, source: tuple[int, int]) -> Array:
        """Boxes of the input in pixels of the picture, cut off at its edges.

        Args:
            boxes_xyxy: ``(n, 4)``, left, top, right, bottom.
            source: height and width of the picture.

        Returns:
            float64 ``(n, 4)``; a box beside the picture comes out empty.
        """
        offset = np.array([self.left, self.top] * 2)
        scale = np.array([self.scale_x, self.scale_y] * 2)
        limits = np.array([source[1], source[0]] * 2, np.float64)
        found: Array = np.clip((np.asarray(boxes_xyxy, np.float64) - offset) / scale, 0, limits)
        return found

    def to_input(self, boxes_xyxy: Array) -> Array:
        """Boxes of the picture in pixels of the input, float64 ``(n, 4)``."""
        offset = np.array([self.left, self.top] * 2)
        scale = np.array([self.scale_x, self.scale_y] * 2)
        found: Array = np.asarray(boxes_xyxy, np.float64) * scale + offset
        return found

    def points_to_input(self, points_xy: Array) -> Array:
        """Points of the picture in pixels of the input, float64 ``(..., 2)``."""
        scale, offset = np.array([self.scale_x, self.scale_y]), np.array([self.left, self.top])
        found: Array = np.asarray(points_xy, np.float64) * scale + offset
        return found

    def resampling(
        self, cells: int, size: tuple[int, int], source: tuple[int, int]
    ) -> tuple[Float32, Float32]:
        """Matrices from a square grid over the whole input to pixels of the picture.

        First to the input's own pixels, of which those beside the picture are dropped, then to the
        picture: both steps are linear along each axis, so that each axis takes one matrix. What the
        input does not show of the picture takes the value at its edge.

        Args:
            cells: of the grid, along each side.
            size: height and width of the input.
            source: of the picture.

        Returns:
            float32 ``(height, cells)`` and ``(width, cells)``; rows sum to 1.
        """
        starts, scales = (self.top, self.left), (self.scale_y, self.scale_x)
        down, across = (
            _resampling(cells, size[n], starts[n], scales[n], source[n]) for n in (0, 1)
        )
        return down, across


def placed_by(image: ImageSpec | None, source: tuple[int, int]) -> tuple[Placement, Fit]:
    """Where a picture lies in the encoder's input, and how it was fitted.

    Raises:
        ContractError: the encoder takes no pictures, or cuts them into tiles.
    """
    if image is None or not isinstance(image.policy, Fit):
        what = "no pictures" if image is None else image.describe()
        raise ContractError(f"places of the picture need an encoder of one size; this takes {what}")
    return placed(image.policy, source), image.policy


def placed(policy: Fit, source: tuple[int, int]) -> Placement:
    """Where ``fit_image`` puts a picture.

    Args:
        policy: of the encoder.
        source: height and width of the picture.
    """
    height, width = source
    target = (policy.height, policy.width)
    if policy.fit == "stretch":
        return _at((0, 0), target, source)
    if policy.fit == "square":
        side = max(source)
        scale = (target[0] / side, target[1] / side)
        top, left = ((side - n) // 2 * s for n, s in zip(source, scale, strict=True))
        return Placement(scale_y=scale[0], scale_x=scale[1], top=top, left=left)
    if policy.fit == "shortest":
        return _shortest(policy, source)
    if policy.fit == "crop":
        scale_both = max(target[0] / height, target[1] / width)
        return Placement(
            scale_y=scale_both,
            scale_x=scale_both,
            top=min(0.0, target[0] - height * scale_both) / 2,
            left=min(0.0, target[1] - width * scale_both) / 2,
        )
    if policy.fit == "corner":
        return _at((0, 0), corner_extent(height, width, policy), source)
    scale_both = min(target[0] / height, target[1] / width)
    inner = (max(1, round(height * scale_both)), max(1, round(width * scale_both)))
    return _at(((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2), inner, source)


def _resampling(cells: int, size: int, start: float, scale: float, source: int) -> Float32:
    first, last = round(start), max(round(start) + 1, round(start + scale * source))
    shown = bilinear_matrix(cells, size)[np.clip(np.arange(first, last), 0, size - 1)]
    found: Float32 = bilinear_matrix(last - first, source) @ shown
    return found


def _at(corner: tuple[float, float], inner: tuple[int, int], source: tuple[int, int]) -> Placement:
    return Placement(
        scale_y=inner[0] / source[0], scale_x=inner[1] / source[1], top=corner[0], left=corner[1]
    )


def _shortest(policy: Fit, source: tuple[int, int]) -> Placement:
    height, width = source
    short = policy.shortest or min(policy.height, policy.width)
    if width <= height:
        size = (int(short * height / width), short)
    else:
        size = (short, int(short * width / height))
    cut = [(s - t) // 2 for s, t in zip(size, (policy.height, policy.width), strict=True)]
    if policy.round_half_even:
        cut = [round((s - t) / 2) for s, t in zip(size, (policy.height, policy.width), strict=True)]
    if min(cut) < 0:  # as fit_image does it: onto a black canvas, then the middle of that
        canvas = (max(policy.height, size[0]), max(policy.width, size[1]))
        moved = [-(-(c - s) // 2) for c, s in zip(canvas, size, strict=True)]
        cut = [max(0, c + m) - m for c, m in zip(cut, moved, strict=True)]
    return _at((-cut[0], -cut[1]), size, source)
