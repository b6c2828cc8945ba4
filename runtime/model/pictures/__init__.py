"""Pictures as the vision encoder wants them, from the manifest alone: one file a policy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.images import (
    AnyResolution,
    Fit,
    Idefics3Tiles,
    ImageSpec,
    InternVLTiles,
    Lfm2Tiles,
    NativePatches,
    SmartResize,
)
from edgevlm.runtime.model.pictures import (
    any_resolution,
    idefics3,
    internvl,
    lfm2,
    native_patches,
    smart_resize,
)
from edgevlm.runtime.model.pictures.expand import expand
from edgevlm.runtime.model.pictures.fit import corner_extent, fit_image
from edgevlm.runtime.model.pictures.prepared import Prepared, size_of
from edgevlm.tensors import Array, Float32

__all__ = ["Prepared", "assemble", "expand", "prepare", "side_inputs"]


def prepare(image_rgb: NDArray[np.uint8], spec: ImageSpec, images_in_prompt: int = 1) -> Prepared:
    """Resize and cut one picture.

    Args:
        image_rgb: uint8 RGB ``(height, width, 3)``.
        spec: image section of the manifest.
        images_in_prompt: how many pictures the prompt holds; some policies then cut no tiles.

    Raises:
        ImageError: a shape that the policy does not take.
    """
    policy = spec.policy
    if isinstance(policy, Fit):
        pixels, source = (fit_image(image_rgb, spec, policy),), size_of(image_rgb)
        extent = corner_extent(*source, policy) if policy.fit == "corner" else None
        return Prepared(pixels=pixels, source=source, extent=extent)
    if isinstance(policy, Idefics3Tiles):
        return idefics3.prepare(image_rgb, spec, policy)
    if isinstance(policy, InternVLTiles):
        return internvl.prepare(image_rgb, spec, policy)
    if isinstance(policy, AnyResolution):
        return any_resolution.prepare(image_rgb, spec, policy, images_in_prompt)
    if isinstance(policy, Lfm2Tiles):
        return lfm2.prepare(image_rgb, spec, policy)
    if isinstance(policy, NativePatches):
        return native_patches.prepare(image_rgb, spec, policy)
    return smart_resize.prepare(image_rgb, spec, policy)


def side_inputs(prepared: Prepared, spec: ImageSpec, tile: int = 0) -> dict[str, Array]:
    """Further inputs of the vision graph for one tile, by name; none where tiles have one size."""
    if isinstance(spec.policy, Fit) and spec.policy.zero_padding:
        return {"extent": np.array(prepared.extent, np.int64)}
    if isinstance(spec.policy, SmartResize):
        return smart_resize.side_inputs(prepared, spec.policy)
    if isinstance(spec.policy, Lfm2Tiles):
        return lfm2.side_inputs(prepared.pixels[tile], spec.policy)
    if isinstance(spec.policy, NativePatches):
        return native_patches.side_inputs(prepared, spec.policy)
    return {}


def assemble(
    prepared: Prepared, spec: ImageSpec, features: Float32, newline: Float32 | None
) -> tuple[Float32, ...]:
    """Visual segments ``(rows, hidden_size)`` from features ``(tiles, rows, hidden)``."""
    if isinstance(spec.policy, AnyResolution):
        return (any_resolution.assemble(prepared, spec.policy, features, newline),)
    return tuple(features)
