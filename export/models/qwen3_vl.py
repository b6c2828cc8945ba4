"""Qwen3-VL: a resampled position table, and features for the first decoder layers (deepstack)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import SmartResize
from edgevlm.export.models.qwen2_vl import Qwen2VLFamily
from edgevlm.export.towers.connectors import mlp
from edgevlm.export.towers.native_vit import NativeVitSpec
from edgevlm.export.towers.writer import TowerWriter

EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen3VLFamily(Qwen2VLFamily):
    """Qwen3-VL, dense."""

    text_prefixes: ClassVar[tuple[str, ...]] = ("model.language_model.", "language_model.", "")
    connector_prefixes: ClassVar[tuple[str, ...]] = ("visual.", "model.visual.")
    language: ClassVar[str] = "qwen3"
    norm_kind: ClassVar[str] = "standard"

    def decoder(self, config: Mapping[str, Any], spec: DecoderSpec) -> DecoderSpec:
        """Interleaved positions, and a level of deepstack for every kept block."""
        levels = len(config["vision_config"]["deepstack_visual_indexes"])
        more = {"mrope_interleaved": True, "deepstack_levels": levels}
        return Qwen2VLFamily.decoder(self, config, spec).model_copy(update=more)

    def tower_width(self, vision: Mapping[str, Any]) -> int:
        """Width of the encoder."""
        return int(vision["hidden_size"])

    def grid(self, vision: Mapping[str, Any]) -> dict[str, int]:
        """The position table."""
        return {"table_side": math.isqrt(int(vision["num_position_embeddings"]))}

    def vit(
        self, vision: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> NativeVitSpec:
        """Shape of the encoder."""
        return NativeVitSpec(
            hidden_size=int(vision["hidden_size"]),
            heads=int(vision["num_heads"]),
            layers=int(vision["depth"]),
            patch=int(vision["patch_size"]),
            activation="gelu_tanh",
            mean=mean,
            std=std,
            fc=("mlp.linear_fc1", "mlp.linear_fc2"),
            table_side=math.isqrt(int(vision["num_position_embeddings"])),
            keep=tuple(vision["deepstack_visual_indexes"]),
        )

    def merge(
        self,
        w: TowerWriter,
        spec: NativeVitSpec,
        policy: SmartResize,
        features: str,
        kept: list[str],
        hidden: int,
    ) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """One merger for the rows of the prompt, and one for every level."""
        wide = w.ints(-1, spec.hidden_size * policy.merge**2)
        normed = w.layer_norm(features, "merger.norm", EPS, "merger/norm")
        rows = w.node("Reshape", [normed, wide], "merger/rows")
        tokens = mlp(w, rows, "merger.linear_fc1", "merger.linear_fc2", "gelu", "merger")
        levels = []
        for n, block in enumerate(kept):
            name, place = f"deepstack_merger_list.{n}", f"deepstack.{n}"
            rows = w.node("Reshape", [block, wide], f"{place}/rows")
            rows = w.layer_norm(rows, f"{name}.norm", EPS, f"{place}/norm")
            out = mlp(w, rows, f"{name}.linear_fc1", f"{name}.linear_fc2", "gelu", place)
            levels.append(w.node("Unsqueeze", [out, w.ints(0)], f"{place}/level"))
        stacked = w.node("Concat", levels, "deepstack/levels", axis=0)
        return {
            "visual_tokens": (tokens, ("tokens", hidden)),
            "deepstack": (stacked, (len(kept), "tokens", hidden)),
        }


FAMILY = Qwen3VLFamily(model_type="qwen3_vl")
