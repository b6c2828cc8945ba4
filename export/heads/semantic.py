"""A text-aligned head on an image encoder: embeddings of the picture, and of every patch of it.

::

    patches ── transformer blocks ── norm ─┬─ projection ── unit length: patch embeddings
                                           └─ pool ── projection ── unit length: embedding

Only patches that show something of the picture are pooled.

Source: SAM-CLIP (Wang et al., 2023), section 3.1, "Head_CLIP".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from edgevlm.export.towers.blocks import BlockSpec, VitNames, write_blocks
from edgevlm.export.towers.pooling import unit_length
from edgevlm.export.towers.writer import TowerWriter

NAMES = VitNames(block="semantic_head.layers.{i}", post_norm="semantic_head.post_layernorm")
LEAST = -65504.0  # half precision holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class SemanticHeadSpec(BlockSpec):
    """Shape of the head.

    Args:
        pool: the largest value of every channel, or the mean.
    """

    pool: Literal["max", "mean"]
    names: VitNames = NAMES
    place: str = "semantic/"


class Semantics(NamedTuple):
    """Names of the head's outputs.

    Args:
        features: float32 ``(1, patches, hidden_size)``.
        patch_embeds: float32 ``(1, patches, width)``, each of length 1.
        embedding: float32 ``(1, width)``, of length 1.
    """

    features: str
    patch_embeds: str
    embedding: str


def write_semantic_head(
    w: TowerWriter, spec: SemanticHeadSpec, x: str, extent: str, side: int, patch: int
) -> Semantics:
    """Write the head.

    Args:
        w: writer over its weights.
        spec: its shape.
        x: float32 ``(1, side, side, hidden_size)``, the encoder's last block.
        extent: int64 ``(2,)``, height and width of the picture in the encoder's input.
        side: patches along one side.
        patch: pixels along one side of a patch.
    """
    rows = w.node("Reshape", [x, w.ints(1, side * side, spec.hidden_size)], "semantic/rows")
    features = write_blocks(w, spec, rows)
    pooled = _pooled(w, spec, features, _inside(w, extent, side, patch))
    pooled = w.node("Unsqueeze", [pooled, w.ints(1)], "semantic/pooled")
    both = w.node("Concat", [features, pooled], "semantic/all", axis=1)
    projected = w.linear(both, "semantic_head.visual_projection", "semantic/projection", bias=False)
    patches, whole = (f"/semantic/Split/{name}" for name in ("patches", "whole"))
    sizes = w.ints(side * side, 1)
    w.node("Split", [unit_length(w, projected, "semantic/unit"), sizes], "semantic",
           outputs=[patches, whole], axis=1)  # fmt: skip
    embedding = w.node("Squeeze", [whole, w.ints(1)], "semantic/whole")
    return Semantics(features, patches, embedding)


def _inside(w: TowerWriter, extent: str, side: int, patch: int) -> str:
    """Which patches show something of the picture, bool ``(1, patches, 1)``."""
    corners = w.graph.constant("corners", patch * np.arange(side))
    parts = [w.node("Gather", [extent, w.ints(n)], f"semantic/extent/{n}") for n in (0, 1)]
    rows = w.node("Less", [corners, parts[0]], "semantic/inside/rows")
    columns = w.node("Less", [corners, parts[1]], "semantic/inside/columns")
    rows = w.node("Unsqueeze", [rows, w.ints(1)], "semantic/inside/rows")
    both = w.node("And", [rows, columns], "semantic/inside")
    return w.node("Reshape", [both, w.ints(1, side * side, 1)], "semantic/inside")


def _pooled(w: TowerWriter, spec: SemanticHeadSpec, x: str, inside: str) -> str:
    """One row of ``(1, patches, hidden_size)``, from those inside: ``(1, hidden_size)``."""
    if spec.pool == "max":
        least = w.graph.constant("least", np.array(LEAST, np.float32))
        kept = w.node("Where", [inside, x, least], "semantic/kept")
        return w.node("ReduceMax", [kept, w.ints(1)], "semantic/pool", keepdims=0)
    weights = w.node("Cast", [inside], "semantic/weights", to=1)
    summed = w.node("ReduceSum", [w.node("Mul", [x, weights], "semantic/kept"), w.ints(1)],
                    "semantic/sum", keepdims=0)  # fmt: skip
    count = w.node("ReduceSum", [weights, w.ints(1)], "semantic/count", keepdims=0)
    return w.node("Div", [summed, count], "semantic/pool")
