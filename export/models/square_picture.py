"""Image processors that make one square picture: resize, and perhaps cut the centre out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.bundle.images import Fit
from edgevlm.errors import CheckpointError, ConfigError


def square_fit(
    settings: Mapping[str, Any], default: int, crops: bool, chosen: int | None, patch: int
) -> Fit:
    """The picture policy of an image processor.

    Args:
        settings: of the processor.
        default: the encoder's size in pixels, where the settings name none.
        crops: whether the processor cuts the centre where the settings do not say.
        chosen: ``--image-size``; what is resized before the cut grows by the same ratio.
        patch: of the encoder.

    Raises:
        CheckpointError: settings that make no square of one size.
        ConfigError: a chosen size that holds no whole patches.
    """
    if settings.get("do_resize") is False:
        raise CheckpointError("the image processor does not resize (do_resize); that is not known")
    size = settings.get("size", default)
    short = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if short is None and (size.get("height") != size.get("width") or "height" not in size):
        raise CheckpointError(f"the image processor resizes to {size}: no square of one size")
    whole = int(size["height"] if short is None else short)
    if settings.get("do_center_crop", crops):
        side = _side(settings.get("crop_size", whole))
        if short is None and side != whole:
            raise CheckpointError(
                f"the image processor resizes to {size} and cuts out {side} pixels; only "
                "shortest_edge before a cut is known"
            )
    elif short is None:
        side = whole
    else:
        raise CheckpointError(
            f"the image processor resizes the shorter side to {short} and cuts nothing: pictures "
            "would differ in size"
        )
    if chosen is not None:
        if chosen < patch or chosen % patch:
            raise ConfigError(f"--image-size {chosen}: this encoder takes a multiple of {patch}")
        whole, side = round(whole * chosen / side), chosen
    if short is None:
        return Fit(height=side, width=side, fit="stretch")
    return Fit(height=side, width=side, fit="shortest", shortest=whole)


def _side(crop: Any) -> int:
    """The side of a cut.

    Raises:
        CheckpointError: it is no square.
    """
    if isinstance(crop, int):
        return crop
    if not isinstance(crop, Mapping) or crop.get("height") != crop.get("width"):
        raise CheckpointError(f"the image processor cuts out {crop}: only squares are supported")
    return int(crop["height"])
