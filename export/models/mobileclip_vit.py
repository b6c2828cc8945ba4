"""MobileCLIP-B's image encoder: a vision transformer behind a stem of convolutions, from timm."""

from __future__ import annotations

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import View
from edgevlm.export.checkpoint.open_clip import Thirds
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.models.encoder import Build
from edgevlm.export.models.vlm import declare_tiles, finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.conv_stem import write_conv_stem
from edgevlm.export.towers.pooling import unit_length
from edgevlm.export.towers.vit import VitSpec, write_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs

NAME = "vit_base_mci_224"
HEAD_DIM, STRIDE, EPS = 64, 16, 1e-6
NAMES = VitNames(
    block="blocks.{i}",
    norm1="norm1",
    norm2="norm2",
    query="attn.q",
    key="attn.k",
    value="attn.v",
    out="attn.proj",
    up="mlp.fc1",
    down="mlp.fc2",
    post_norm="norm",
)


def vit_build(view: View, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Build:
    """What writes the vision graph: the class token's row, normed and projected.

    Args:
        view: of the tower's weights.
        size: height and width of the picture.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.

    Raises:
        CheckpointError: a position table for another size.
    """
    tower = Thirds(view, "attn.qkv.{}")
    table, token = view.get("pos_embed")[0], view.get("cls_token")[0]
    count, hidden = table.shape
    if (size // STRIDE) ** 2 != count:
        raise CheckpointError(
            f"mobileclip: {NAME} has a position table of {count} patches, and pictures of {size} "
            f"pixels have {(size // STRIDE) ** 2}"
        )
    layers = 0
    while view.has(f"blocks.{layers}.norm1.weight"):
        layers += 1
    spec = VitSpec(
        hidden_size=hidden,
        heads=hidden // HEAD_DIM,
        layers=layers,
        eps=EPS,
        activation="gelu",
        names=NAMES,
        image_size=size,
        mean=mean,
        std=std,
        positions=np.concatenate([np.zeros_like(token), table]),  # the class token has none
        prefix=token,
    )
    width = view.shape("head.weight")[0]

    def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
        w = TowerWriter(graph, tower, plan)
        declare_tiles(graph, size)
        rows = write_conv_stem(w, "image", mean, std)
        features = write_vit(w, spec, rows=rows)
        pooled = w.node("Gather", [features, graph.constant("first", np.array(0))], "pool", axis=1)
        projected = w.linear(pooled, "head", "head", bias=view.has("head.bias"))
        outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
            "embedding": (unit_length(w, projected, "unit"), ("tiles", width)),
            "pooled": (pooled, ("tiles", hidden)),
            "features": (features, ("tiles", 1 + count, hidden)),
        }
        return finish(graph, outputs, w)

    return build
