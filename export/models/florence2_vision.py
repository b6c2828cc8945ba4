"""Florence-2's vision graph: DaViT, learned places, and the projection to the text's space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgevlm.bundle.images import Fit, ImageSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.models.image_config import Triple
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.davit import DavitSpec, DavitStage, Planes, as_rows, write_davit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Float32

NORM_EPS = 1e-5  # no configuration names it


def patch_grid(vision: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """Patches of the last stage: down, and across."""
    for size, stride, padding in zip(
        vision["patch_size"], vision["patch_stride"], vision["patch_padding"], strict=True
    ):
        height, width = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    return height, width


def davit_spec(vision: Mapping[str, Any], image: ImageSpec, mean: Triple, std: Triple) -> DavitSpec:
    """The tower's shape from its configuration."""
    keys = ("embed_dim", "depths", "num_heads", "num_groups", "patch_stride", "patch_padding",
            "patch_prenorm")  # fmt: skip
    stages = tuple(
        DavitStage(width=width, depth=depth, heads=heads, groups=groups, stride=stride,
                   padding=padding, pre_norm=before)
        for width, depth, heads, groups, stride, padding, before in zip(
            *(vision[key] for key in keys), strict=True
        )
    )  # fmt: skip
    assert isinstance(image.policy, Fit)
    return DavitSpec(
        stages=stages,
        window=int(vision["window_size"]),
        height=image.policy.height,
        width=image.policy.width,
        mean=mean,
        std=std,
        qkv_bias=bool(vision["qkv_bias"]),
        activation=vision["activation_function"],
    )


def write_vision(
    graph: GraphBuilder, plan: PrecisionPlan, *, tower: View, connector: View, spec: DavitSpec
) -> TowerOutputs:
    """Write the whole vision graph.

    Raises:
        CheckpointError: weights of another shape than the configuration makes them, or fewer
            positions than patches.
    """
    w, c = TowerWriter(graph, tower, plan), TowerWriter(graph, connector, plan)
    graph.input("image", "uint8", ("tiles", spec.height, spec.width, 3), "RGB pixels")
    planes = write_davit(w, spec)
    tokens = _projected(c, planes)
    count, hidden = planes.height * planes.width + 1, c.source.shape("image_projection.weight")[0]
    outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
        "visual_tokens": (tokens, ("tiles", count, hidden)),
        "features": (planes.value, ("tiles", planes.channels, planes.height, planes.width)),
    }
    return finish(graph, outputs, w, c)


def _projected(c: TowerWriter, planes: Planes) -> str:
    """The mean of all patches, then every patch, with their places, in the text's space."""
    rows = as_rows(c, planes, "connector")
    rows = c.node(
        "Add", [rows, c.tensor("connector.positions", _positions(c, planes))], "connector"
    )
    mean = c.node("ReduceMean", [rows, c.ints(1)], "connector/mean", keepdims=1)
    both = c.node("Concat", [mean, rows], "connector/rows", axis=1)
    projected = c.linear(both, "image_projection", "connector/projection", bias=False)
    return c.layer_norm(projected, "image_proj_norm", NORM_EPS, "connector/norm")


def _positions(c: TowerWriter, planes: Planes) -> Float32:
    """Learned columns and rows, and the first moment of time: ``(1, patches, channels)``."""
    columns = c.source.get("image_position_embed.column_embeddings.weight")
    rows = c.source.get("image_position_embed.row_embeddings.weight")
    high, wide = planes.height, planes.width
    if high > len(rows) or wide > len(columns):
        raise CheckpointError(
            f"the picture becomes {high}x{wide} patches; there are positions for "
            f"{len(rows)}x{len(columns)}"
        )
    grid = np.concatenate(
        [np.tile(columns[None, :wide], (high, 1, 1)), np.tile(rows[:high, None], (1, wide, 1))], -1
    )
    time = c.source.get("visual_temporal_embed.pos_idx_to_embed")[0]
    return np.asarray(grid.reshape(1, high * wide, -1) + time, np.float32)
