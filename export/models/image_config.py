"""Read the settings of an image processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from edgevlm.bundle.images import Resample
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint

_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
Triple = tuple[float, float, float]
MEAN: Mapping[str, Triple] = {
    "standard": (0.5, 0.5, 0.5),
    "clip": (0.48145466, 0.4578275, 0.40821073),
    "imagenet": (0.485, 0.456, 0.406),
}
STD: Mapping[str, Triple] = {
    "standard": (0.5, 0.5, 0.5),
    "clip": (0.26862954, 0.26130258, 0.27577711),
    "imagenet": (0.229, 0.224, 0.225),
}


def resample(config: Mapping[str, Any], default: str) -> Resample:
    """The filter by Pillow's number.

    Raises:
        CheckpointError: Pillow has no such filter.
    """
    value = config.get("resample")
    if value is None:
        return cast("Resample", default)
    if not isinstance(value, int) or not 0 <= value < len(_RESAMPLE):
        raise CheckpointError(f"the image processor's resample {value!r} is none of Pillow's")
    return cast("Resample", _RESAMPLE[value])


def check_image_tokens(checkpoint: Checkpoint, found: int) -> None:
    """Hold the image tokens that the processor writes for one tile against the model's.

    Args:
        checkpoint: whose processor says how many it writes, under one of several names.
        found: rows that the encoder gives for one tile.

    Raises:
        CheckpointError: they differ.
    """
    for key in ("image_seq_len", "image_seq_length", "num_image_tokens"):
        for settings in (checkpoint.processor_options, checkpoint.processor):
            said = settings.get(key)
            if isinstance(said, int) and said != found:
                raise CheckpointError(
                    f"{checkpoint.folder}: the processor writes {said} image tokens a tile "
                    f"({key}) and config.json makes {found}: copy both from one model"
                )


def normalisation(config: Mapping[str, Any], kind: str) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel, of pixels in [0, 1].

    Raises:
        CheckpointError: not three numbers each, or pixels that are not scaled by 1/255.
    """
    if abs(float(config.get("rescale_factor", 1 / 255)) - 1 / 255) > 1e-6:
        raise CheckpointError(
            f"the image processor scales pixels by {config['rescale_factor']}; only 1/255 is known"
        )
    if config.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean = config.get("image_mean", MEAN[kind])
    std = config.get("image_std", STD[kind])
    try:
        triples = tuple(map(float, mean)), tuple(map(float, std))
    except TypeError as exc:
        raise CheckpointError(f"image_mean {mean!r} and image_std {std!r} are no numbers") from exc
    if len(triples[0]) != 3 or len(triples[1]) != 3:
        raise CheckpointError(f"image_mean {mean!r} and image_std {std!r} need three channels")
    return _triple(triples[0]), _triple(triples[1])


def _triple(values: tuple[float, ...]) -> Triple:
    first, second, third = values
    return first, second, third


def edge(config: Mapping[str, Any], key: str, side: str, default: int) -> int:
    """One number of a size dictionary such as ``size.longest_edge``."""
    value = config.get(key)
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping) and side in value:
        return int(value[side])
    return default


def height_width(config: Mapping[str, Any], key: str, default: int) -> tuple[int, int]:
    """``{height, width}``, one number, or ``{shortest_edge}`` as a square."""
    value = config.get(key)
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping):
        if "height" in value:
            return int(value["height"]), int(value["width"])
        if "shortest_edge" in value:
            return int(value["shortest_edge"]), int(value["shortest_edge"])
    return default, default


def multiple_of(size: int, step: int, what: str) -> int:
    """The size itself.

    Raises:
        ConfigError: it is no multiple of ``step``.
    """
    if size < step or size % step:
        raise ConfigError(f"--image-size {size}: {what} takes a multiple of {step}")
    return size
