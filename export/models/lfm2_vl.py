"""LFM2-VL: SigLIP2 at native resolution, pixel shuffle, two linear layers, LFM2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.images import Expansion, ImageSpec, Lfm2Tiles
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint, View
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.image_config import multiple_of, normalisation, resample
from edgevlm.export.models.vlm import VlmFamily, all_tiles, finish, normalized
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.connectors import mlp, native_pixel_shuffle
from edgevlm.export.towers.naflex import NaflexSpec, write_naflex
from edgevlm.export.towers.writer import Activation, TowerWriter
from edgevlm.export.vision_part import TowerOutputs
from edgevlm.tensors import Array

EPS = 1e-5  # of the connector's norm
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
    "silu": "silu", "relu": "relu",
}  # fmt: skip
_PROCESSOR = {
    "tile_size": 512, "min_tiles": 2, "max_tiles": 10, "encoder_patch_size": 16,
    "downsample_factor": 2, "min_image_tokens": 64, "max_image_tokens": 256,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lfm2VlFamily(VlmFamily):
    """LFM2-VL."""

    text_prefixes: ClassVar[tuple[str, ...]] = ("model.language_model.", "language_model.", "")
    tower_prefixes: ClassVar[tuple[str, ...]] = (
        "model.vision_tower.",
        "model.vision_tower.vision_model.",
    )
    connector_prefixes: ClassVar[tuple[str, ...]] = ("model.multi_modal_projector.",)
    reference_stages: ClassVar[Mapping[str, str]] = {"visual_tokens": "model.multi_modal_projector"}

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """As the processor says; ``--image-size N`` is a budget of N times N, and no tiles."""
        settings = checkpoint.processor
        number = {key: int(settings.get(key, least)) for key, least in _PROCESSOR.items()}
        patch, merge = number["encoder_patch_size"], number["downsample_factor"]
        self._check(checkpoint, config, number)
        split = bool(settings.get("do_image_splitting", True))
        split = split and not number["min_tiles"] == number["max_tiles"] == 1
        if split and number["min_tiles"] < 2:
            raise CheckpointError(
                f"{checkpoint.folder}: min_tiles {number['min_tiles']}: a picture that is cut has "
                "2 tiles or more; say min_tiles 2, or do_image_splitting false"
            )
        least, most = number["min_image_tokens"], number["max_image_tokens"]
        if options.image_size is not None:
            side = multiple_of(options.image_size, patch * merge, self.model_type)
            most, split = (side // (patch * merge)) ** 2, False
        special = checkpoint.processor_options.get("use_image_special_tokens", True)
        return ImageSpec(
            policy=Lfm2Tiles(
                tile=number["tile_size"],
                least=max(2, number["min_tiles"]),
                most=max(2, number["max_tiles"]),
                split=split,
                thumbnail=bool(settings.get("use_thumbnail", True)),
                patch=patch,
                merge=merge,
                least_tokens=min(least, most),
                most_tokens=most,
                tolerance=float(settings.get("max_pixels_tolerance", 2.0)),
                table_side=self._vit(checkpoint, config).table_side,
            ),
            resample=resample(settings, "bilinear"),
            follows="Lfm2VlImageProcessor, resized by Pillow",
            expansion=_expansion(checkpoint) if special else Expansion(),
        )

    def _check(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], number: Mapping[str, int]
    ) -> None:
        """Hold the processor against the model.

        Raises:
            CheckpointError: they disagree on what becomes a token.
        """
        vision = config["vision_config"]
        if vision["model_type"] != "siglip2_vision_model":
            raise CheckpointError(
                f"{checkpoint.folder}: lfm2_vl with a {vision['model_type']} is not known, only "
                "with a siglip2_vision_model"
            )
        cell = number["encoder_patch_size"], number["downsample_factor"]
        model = int(vision["patch_size"]), int(config["downsample_factor"])
        if cell != model:
            raise CheckpointError(
                f"{checkpoint.folder}: patches and downsampling are {cell} for the processor and "
                f"{model} for config.json: copy both from one model"
            )
        if number["tile_size"] % (cell[0] * cell[1]):
            raise CheckpointError(
                f"{checkpoint.folder}: tile_size {number['tile_size']} is no multiple of "
                f"{cell[0] * cell[1]}, the pixels along one side of a token"
            )

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:  # noqa: ARG002
        """Of a picture that becomes the most tiles, with what is written around them."""
        policy = image.policy
        assert isinstance(policy, Lfm2Tiles)
        tile = (policy.tile // policy.patch // policy.merge) ** 2
        tiles = policy.most * (tile + 1) + 1 if policy.split else 0
        return tiles + policy.most_tokens + 2

    def _vit(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> NaflexSpec:
        """Shape of the tower."""
        vision = config["vision_config"]
        mean, std = normalisation(checkpoint.processor, "standard")
        return NaflexSpec(
            hidden_size=int(vision["hidden_size"]),
            heads=int(vision["num_attention_heads"]),
            layers=int(vision["num_hidden_layers"]),
            eps=float(vision["layer_norm_eps"]),
            activation=_activation(checkpoint, vision["hidden_act"]),
            patch=int(vision["patch_size"]),
            positions=int(vision["num_patches"]),
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
        """SigLIP2, pixel shuffle, projection."""
        policy = image.policy
        assert isinstance(policy, Lfm2Tiles)
        spec = self._vit(checkpoint, config)
        active = _activation(checkpoint, config["projector_hidden_act"])
        hidden = int(config["text_config"]["hidden_size"])

        def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
            w, c = TowerWriter(graph, tower, plan), TowerWriter(graph, connector, plan)
            features = write_naflex(w, spec)
            rows = native_pixel_shuffle(
                c, features, spec.hidden_size, policy.merge, "connector/shuffle"
            )
            if config["projector_use_layernorm"]:
                rows = c.layer_norm(rows, "layer_norm", EPS, "connector/norm")
            bias = bool(config["projector_bias"])
            tokens = mlp(c, rows, "linear_1", "linear_2", active, "connector", bias=bias)
            outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
                "visual_tokens": (tokens, ("tokens", hidden)),
                "features": (features, (1, "patches", spec.hidden_size)),
            }
            return finish(graph, outputs, w, c)

        return build

    def reference_inputs(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        case: ProbeCase,
    ) -> dict[str, Array]:
        """Flat patches of every tile, filled up to the longest, with masks and grids."""
        mean, std = normalisation(checkpoint.processor, "standard")
        patch = int(config["vision_config"]["patch_size"])
        flat, grids = [], []
        for tile in all_tiles(case):
            planes = normalized([tile], mean, std)[0]
            high, wide = planes.shape[1] // patch, planes.shape[2] // patch
            cut = planes.reshape(3, high, patch, wide, patch).transpose(1, 3, 2, 4, 0)
            flat.append(cut.reshape(high * wide, -1))
            grids.append((high, wide))
        longest = max(map(len, flat))
        inside = np.arange(longest)[None] < np.array([[len(rows)] for rows in flat])
        values = np.zeros((len(flat), longest, 3 * patch**2), np.float32)
        values[inside] = np.concatenate(flat)
        return {
            "pixel_values": values,
            "pixel_attention_mask": inside.astype(np.int64),
            "spatial_shapes": np.array(grids, np.int64),
        }


def _expansion(checkpoint: Checkpoint) -> Expansion:
    """Tokens around a picture and its tiles."""

    def token(key: str, default: str) -> str:
        return checkpoint.named_token(key) or default

    return Expansion(
        prefix=token("image_start_token", "<|image_start|>"),
        before_tile="<|img_row_{row}_col_{column}|>",
        before_whole=token("image_thumbnail_token", "<|img_thumbnail|>"),
        suffix=token("image_end_token", "<|image_end|>"),
    )


def _activation(checkpoint: Checkpoint, name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise CheckpointError(
            f"{checkpoint.folder}: activation {name!r} is not known, only {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


FAMILY = Lfm2VlFamily(model_type="lfm2_vl")
