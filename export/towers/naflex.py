"""SigLIP2-NaFlex: a vision transformer that takes pictures in their own aspect ratio.

Only what depends on the picture's grid comes in from outside: the two matrices that resample the
position table, bilinear with antialiasing.

Source: SigLIP 2 (Tschannen et al., 2025), section 2.4.2, "NaFlex".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.blocks import BlockSpec, write_blocks
from edgevlm.export.towers.positions import declare_resampling, resampled_positions
from edgevlm.export.towers.writer import TowerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class NaflexSpec(BlockSpec):
    """Shape of the tower, besides its blocks.

    Args:
        patch: pixels along a side of a patch.
        positions: rows of the position table, a square grid.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
    """

    patch: int
    positions: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def table_side(self) -> int:
        """Cells along one side of the position table."""
        return math.isqrt(self.positions)


def write_naflex(w: TowerWriter, spec: NaflexSpec) -> str:
    """Declare the inputs and write the tower.

    Its inputs are ``image`` uint8 ``(height, width, 3)``, whole patches, and the two matrices of
    ``declare_resampling``.

    Returns:
        name of the output, float32 ``(1, patches, hidden_size)``, row by row.

    Raises:
        CheckpointError: weights that are not of the configuration's shape.
    """
    side, table = spec.table_side, w.source.get("embeddings.position_embedding.weight")
    flat = w.source.get(f"{spec.names.patch}.weight")
    wanted = (spec.hidden_size, 3 * spec.patch**2), (side * side, spec.hidden_size)
    if (flat.shape, table.shape) != wanted:
        raise CheckpointError(
            f"the vision tower's patch weight is {flat.shape} and its position table "
            f"{table.shape}; the configuration makes them {wanted[0]} and {wanted[1]}"
        )
    w.graph.input("image", "uint8", ("height", "width", 3), "RGB pixels, whole patches")
    declare_resampling(w, side)
    # A patch is a row of the checkpoint's matrix: its pixels row by row, channels last.
    kernel = flat.reshape(-1, spec.patch, spec.patch, 3).transpose(0, 3, 1, 2)
    batch = w.node("Unsqueeze", ["image", w.ints(0)], "patches/batch")
    bias = w.source.get(f"{spec.names.patch}.bias")
    x = w.patches(batch, kernel, bias, spec.mean, spec.std, "patches")
    x = w.node("Add", [x, resampled_positions(w, table, side)], "positions")
    return write_blocks(w, spec, x)
