"""Plain vision transformers of one input size: SigLIP, CLIP, InternViT, DINOv2."""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.blocks import BlockSpec, write_blocks
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VitSpec(BlockSpec):
    """Shape of a plain vision transformer, besides its blocks.

    Args:
        image_size: height and width of a tile.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        positions: float32 ``(prefix + patches, hidden_size)``, for this image size.
        prefix: float32 ``(tokens, hidden_size)`` before the patches, such as the class token.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    positions: Float32
    prefix: Float32 | None = None


def write_vit(w: TowerWriter, spec: VitSpec, image: str = "image", rows: str | None = None) -> str:
    """Write the tower.

    Args:
        w: writer over the tower's weights.
        spec: its shape.
        image: input, uint8 ``(tiles, image_size, image_size, 3)``.
        rows: patches ``(tiles, patches, hidden_size)``, where more than one convolution made them.

    Returns:
        name of the output, float32 ``(tiles, prefix + patches, hidden_size)``.
    """
    x = _patches(w, spec, image) if rows is None else rows
    if spec.prefix is not None:
        x = _with_prefix(w, x, spec.prefix)
    x = w.node("Add", [x, w.tensor("positions", spec.positions[None])], "positions")
    return write_blocks(w, spec, x)


def _patches(w: TowerWriter, spec: VitSpec, image: str) -> str:
    kernel = w.source.get(f"{spec.names.patch}.weight")
    bias_name = f"{spec.names.patch}.bias"
    bias = w.source.get(bias_name) if w.source.has(bias_name) else None
    _check(spec, kernel.shape)
    return w.patches(image, kernel, bias, spec.mean, spec.std, "patches")


def _check(spec: VitSpec, kernel: tuple[int, ...]) -> None:
    """Hold what the configuration says against the weights.

    Raises:
        CheckpointError: they disagree.
    """
    side = spec.image_size // kernel[-1]
    prefix = 0 if spec.prefix is None else len(spec.prefix)
    wanted = (prefix + side * side, spec.hidden_size)
    if kernel[0] != spec.hidden_size or spec.positions.shape != wanted:
        raise CheckpointError(
            f"the vision tower's patch kernel is {kernel} and its position table "
            f"{spec.positions.shape}; the configuration makes the table {wanted}"
        )


def _with_prefix(w: TowerWriter, x: str, prefix: Float32) -> str:
    """The class token and its like before every tile's patches."""
    count = w.node("Shape", [x], "prefix", start=0, end=1)
    rest = w.ints(*prefix.shape)
    shape = w.node("Concat", [count, rest], "prefix", axis=0)
    rows = w.node("Expand", [w.tensor("prefix", prefix[None]), shape], "prefix")
    return w.node("Concat", [rows, x], "prefix/rows", axis=1)
