"""Attention over a square grid, with decomposed relative positions.

Rows and columns apart: each query is multiplied with the relative position of every key row and of
every key column, and both are added to its scores. They are added one after the other, so that the
engine can do it in place: the scores of a whole picture are the encoder's largest value.

Source: MViTv2 (Li et al., 2022), equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.towers.writer import TowerWriter
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class GridAttention:
    """Shape of one attention.

    Args:
        hidden_size: width.
        heads: a divisor of it.
        relative: the weights hold ``rel_pos_h`` and ``rel_pos_w``.
        qkv_bias: query, key and value have biases.
    """

    hidden_size: int
    heads: int
    relative: bool = True
    qkv_bias: bool = True

    @property
    def width(self) -> int:
        """Of one head."""
        return self.hidden_size // self.heads


def grid_attention(
    w: TowerWriter, spec: GridAttention, base: str, x: str, side: int, place: str
) -> str:
    """Write the attention.

    Args:
        w: writer.
        spec: its shape.
        base: name of its weights: ``qkv``, ``proj``, ``rel_pos_h`` and ``rel_pos_w``.
        x: float32 ``(grids, side, side, hidden_size)``; each grid attends to itself.
        side: of a grid.
        place: where the nodes sit.

    Returns:
        name of the output, of the same shape.
    """
    flat = w.node("Reshape", [x, w.ints(-1, side * side, spec.hidden_size)], f"{place}/flat")
    qkv = w.linear(flat, f"{base}.qkv", f"{place}/qkv", bias=spec.qkv_bias)
    split = [f"/{place}/Split/{p}" for p in "qkv"]
    w.node("Split", [qkv, w.ints(*[spec.hidden_size] * 3)], place, outputs=split, axis=-1)
    q, k, v = (
        w.heads(s, spec.heads, spec.width, f"{place}/{p}")
        for s, p in zip(split, "qkv", strict=True)
    )
    factor = w.graph.constant(
        f"scale.{spec.width}", np.array(1.0 / np.sqrt(spec.width), np.float32)
    )
    scaled = w.node("Mul", [q, factor], f"{place}/queries")
    keys = w.node("Transpose", [k], f"{place}/keys", perm=[0, 1, 3, 2])
    scores = w.node("MatMul", [scaled, keys], f"{place}/scores")
    if spec.relative:
        scores = _with_positions(w, spec, base, q, scores, side, place)
    weights = w.node("Softmax", [scores], place, axis=-1)
    mixed = w.node("MatMul", [weights, v], f"{place}/values")
    back = w.node("Transpose", [mixed], f"{place}/back", perm=[0, 2, 1, 3])
    rows = w.node("Reshape", [back, w.ints(0, 0, -1)], f"{place}/back")
    out = w.linear(rows, f"{base}.proj", f"{place}/out")
    return w.node("Reshape", [out, w.ints(-1, side, side, spec.hidden_size)], f"{place}/grid")


def _with_positions(
    w: TowerWriter, spec: GridAttention, base: str, q: str, scores: str, side: int, place: str
) -> str:
    """The scores ``(grids, heads, side^2, side^2)`` and what relative positions add to them."""
    grid = w.node("Reshape", [q, w.ints(-1, side, side, spec.width)], f"{place}/relative/grid")
    rows = w.tensor(f"{base}.rel_pos_h", _table(w, f"{base}.rel_pos_h", side))
    by_row = w.node("MatMul", [grid, rows], f"{place}/relative/rows")
    turned = w.node("Transpose", [grid], f"{place}/relative/turned", perm=[0, 2, 1, 3])
    columns = w.tensor(f"{base}.rel_pos_w", _table(w, f"{base}.rel_pos_w", side))
    by_column = w.node("MatMul", [turned, columns], f"{place}/relative/columns")
    by_column = w.node("Transpose", [by_column], f"{place}/relative/columns", perm=[0, 2, 1, 3])
    by_row = w.node("Reshape", [by_row, w.ints(-1, side * side, side, 1)], f"{place}/relative/rows")
    by_column = w.node(
        "Reshape", [by_column, w.ints(-1, side * side, 1, side)], f"{place}/relative/columns"
    )
    split = w.node("Reshape", [scores, w.ints(-1, side * side, side, side)], f"{place}/scores")
    split = w.node("Add", [split, by_row], f"{place}/scores/rows")
    split = w.node("Add", [split, by_column], f"{place}/scores/columns")
    whole = w.ints(-1, spec.heads, side * side, side * side)
    return w.node("Reshape", [split, whole], f"{place}/scores/whole")


def _table(w: TowerWriter, name: str, side: int) -> Float32:
    """Positions of every query row against every key row, ``(side, width, side)``."""
    places = np.arange(side)
    table = w.source.get(name)[places[:, None] - places[None] + side - 1]
    turned: Float32 = table.transpose(0, 2, 1)
    return turned
