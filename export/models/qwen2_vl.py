"""Qwen2-VL: native resolution, a merger of four patches, rotary rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import ImageSpec, SmartResize
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import edge, multiple_of, normalisation, resample
from edgevlm.export.models.vlm import VlmFamily, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.connectors import mlp
from edgevlm.export.towers.native_vit import NativeVitSpec, write_native_vit
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Qwen2VLFamily(VlmFamily):
    """Qwen2-VL; its successors override what they changed."""

    text_prefixes: ClassVar[tuple[str, ...]] = ("model.", "model.language_model.", "")
    tower_prefixes: ClassVar[tuple[str, ...]] = ("visual.", "model.visual.")
    connector_prefixes: ClassVar[tuple[str, ...]] = ("visual.merger.", "model.visual.merger.")
    reference_stages: ClassVar[Mapping[str, str]] = {"visual_tokens": "model.visual.merger"}
    language: ClassVar[str] = "qwen2"
    norm_kind: ClassVar[str] = "clip"

    def text_family(self, config: Mapping[str, Any]) -> str:  # noqa: ARG002
        """The text model's class has a name of its own, and is one of these."""
        return self.language

    def decoder(self, config: Mapping[str, Any], spec: DecoderSpec) -> DecoderSpec:
        """With three positions a row.

        Raises:
            CheckpointError: the configuration does not say how they share the rotary pairs.
        """
        rope = config["text_config"]["rope_parameters"]
        section = rope.get("mrope_section")
        if not isinstance(section, list) or len(section) != 3:
            raise CheckpointError(f"{self.model_type}: mrope_section {section!r} is no triple")
        time, row, column = map(int, section)
        return spec.model_copy(
            update={
                "mrope_section": (time, row, column),
                "mrope_interleaved": bool(rope.get("mrope_interleaved", False)),
            }
        )

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """Within the processor's budget of pixels; ``--image-size N`` makes it N times N."""
        settings, vision = checkpoint.processor, config["vision_config"]
        patch = int(settings.get("patch_size", vision["patch_size"]))
        merge = int(settings.get("merge_size", vision["spatial_merge_size"]))
        least = int(settings.get("min_pixels") or edge(settings, "size", "shortest_edge", 56 * 56))
        most = int(
            settings.get("max_pixels") or edge(settings, "size", "longest_edge", 28 * 28 * 1280)
        )
        if options.image_size is not None:
            most = multiple_of(options.image_size, patch * merge, self.model_type) ** 2
            least = min(least, most)
        width, heads = self.tower_width(vision), int(vision["num_heads"])
        return ImageSpec(
            policy=SmartResize(
                patch=patch,
                merge=merge,
                least_pixels=least,
                most_pixels=most,
                head_dim=width // heads,
            ).model_copy(update=self.grid(vision)),
            resample=resample(settings, "bicubic"),
            follows="Qwen2VLImageProcessorPil",
        )

    def tower_width(self, vision: Mapping[str, Any]) -> int:
        """Width of the encoder."""
        return int(vision["embed_dim"])

    def grid(self, vision: Mapping[str, Any]) -> dict[str, int]:  # noqa: ARG002
        """Windows and position table, where there are any."""
        return {}

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:  # noqa: ARG002
        """The whole budget of pixels."""
        policy = image.policy
        assert isinstance(policy, SmartResize)
        return policy.most_pixels // (policy.patch * policy.merge) ** 2 + 2

    def vit(
        self, vision: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> NativeVitSpec:
        """Shape of the encoder."""
        return NativeVitSpec(
            hidden_size=int(vision["embed_dim"]),
            heads=int(vision["num_heads"]),
            layers=int(vision["depth"]),
            patch=int(vision["patch_size"]),
            activation=vision["hidden_act"],
            mean=mean,
            std=std,
        )

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """Encoder and merger."""
        policy = image.policy
        assert isinstance(policy, SmartResize)
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        spec = self.vit(config["vision_config"], mean, std)
        hidden = int(config["text_config"]["hidden_size"])

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w, c = TowerWriter(graph, tower, plan), TowerWriter(graph, connector, plan)
            features, kept = write_native_vit(w, spec)
            outputs = self.merge(c, spec, policy, features, kept, hidden)
            outputs["features"] = (features, (1, "patches", spec.hidden_size))
            return finish(graph, outputs, w, c)

        return build

    def merge(
        self,
        w: TowerWriter,
        spec: NativeVitSpec,
        policy: SmartResize,
        features: str,
        kept: list[str],  # noqa: ARG002
        hidden: int,
    ) -> dict[str, tuple[str, tuple[int | str, ...]]]:
        """Four neighbours become one row of the language model's width."""
        normed = w.layer_norm(features, "ln_q", spec.eps, "merger/norm")
        shape = w.ints(-1, spec.hidden_size * policy.merge**2)
        rows = w.node("Reshape", [normed, shape], "merger/rows")
        tokens = mlp(w, rows, "mlp.0", "mlp.2", "gelu", "merger")
        return {"visual_tokens": (tokens, ("tokens", hidden))}

    def reference_inputs(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], case: ProbeCase
    ) -> dict[str, Array]:
        """Flat patches of both (equal) frames, grids, and which prompt tokens are pictures."""
        mean, std = normalisation(checkpoint.processor, self.norm_kind)
        vision = config["vision_config"]
        patch, merge = int(vision["patch_size"]), int(vision["spatial_merge_size"])
        flat, grids = [], []
        for n in range(len(case.pictures)):
            planes = normalized(case.tiles(n), mean, std)[0]
            high, wide = planes.shape[1] // patch, planes.shape[2] // patch
            cut = planes.reshape(3, high // merge, merge, patch, wide // merge, merge, patch)
            cut = cut.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
            twice = np.repeat(cut, int(vision["temporal_patch_size"]), axis=5)
            flat.append(twice.reshape(high * wide, -1))
            grids.append((1, high, wide))
        kinds = (case.load("ids") == int(config["image_token_id"])).astype(np.int64)
        return {
            "pixel_values": np.concatenate(flat),
            "image_grid_thw": np.array(grids, np.int64),
            "mm_token_type_ids": kinds[None],
        }


FAMILY = Qwen2VLFamily(model_type="qwen2_vl")
