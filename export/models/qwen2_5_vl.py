"""Qwen2.5-VL: as Qwen2-VL, with RMSNorm, gated MLPs and attention within windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgevlm.bundle.images import SmartResize
from edgevlm.export.models.qwen2_vl import Qwen2VLFamily
from edgevlm.export.towers.connectors import mlp
from edgevlm.export.towers.native_vit import NativeVitSpec
from edgevlm.export.towers.writer import TowerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen25VLFamily(Qwen2VLFamily):
    """Qwen2.5-VL."""

    reference_stages: ClassVar[Mapping[str, str]] = {"merged": "model.visual.merger"}

    def tower_width(self, vision: Mapping[str, Any]) -> int:
        """Width of the encoder."""
        return int(vision["hidden_size"])

    def grid(self, vision: Mapping[str, Any]) -> dict[str, int]:
        """Windows."""
        return {"window": int(vision["window_size"])}

    def vit(
        self, vision: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> NativeVitSpec:
        """Shape of the encoder."""
        layers, patch = int(vision["depth"]), int(vision["patch_size"])
        merge = int(vision["spatial_merge_size"])
        side = int(vision["window_size"]) // merge // patch * merge
        return NativeVitSpec(
            hidden_size=int(vision["hidden_size"]),
            heads=int(vision["num_heads"]),
            layers=layers,
            patch=patch,
            activation="silu",
            mean=mean,
            std=std,
            rms=True,
            gated=True,
            windowed=frozenset(range(layers)) - set(vision["fullatt_block_indexes"]),
            window_tokens=side**2,
        )

    def merge(
        self,
        w: TowerWriter,
        spec: NativeVitSpec,
        policy: SmartResize,
        features: str,
        kept: list[str],  # noqa: ARG002
        hidden: int,
    ) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """The merger, and its rows back from the order of the windows."""
        normed = w.rms_norm(features, "ln_q", spec.eps, "merger/norm")
        shape = w.ints(-1, spec.hidden_size * policy.merge**2)
        rows = w.node("Reshape", [normed, shape], "merger/rows")
        tokens = mlp(w, rows, "mlp.0", "mlp.2", "gelu", "merger")
        w.graph.input("restore", "int64", ("tokens",), "the merged rows, row by row again")
        restored = w.node("Gather", [tokens, "restore"], "merger/restored", axis=0)
        return {
            "visual_tokens": (restored, ("tokens", hidden)),
            "merged": (tokens, ("tokens", hidden)),
        }


FAMILY = Qwen25VLFamily(model_type="qwen2_5_vl")
