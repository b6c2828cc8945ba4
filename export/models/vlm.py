"""What one vision-language family must say of itself.

A family is one file: subclass ``VlmFamily``, fill in the names and override the steps that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.manifest import VisualTokens, WeightEntry
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.bundle.prompt import PromptSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint, View, generation_rules
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.hf_config import full_config
from edgevlm.export.models.image_config import Triple
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.reference.source_model import TransformersReference
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs, VisionGraph
from edgevlm.registry import FAMILIES
from edgevlm.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class VlmFamily:
    """A vision-language model of transformers: tower, connector, decoder.

    Weight prefixes are tried in order, because published checkpoints and those that transformers
    saves today name the same weights differently.
    """

    model_type: str
    text_prefixes: ClassVar[tuple[str, ...]]
    tower_prefixes: ClassVar[tuple[str, ...]]
    connector_prefixes: ClassVar[tuple[str, ...]]
    # Modules of the transformers model: of the decoder's layers, and of what the vision graph's
    # outputs are compared with.
    reference_layers: ClassVar[str] = "model.language_model.layers"
    reference_stages: ClassVar[Mapping[str, str]]

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read everything that the export needs.

        Raises:
            CheckpointError: a checkpoint that cannot be read or does not hold together.
            ConfigError: options that do not fit this family.
        """
        config = full_config(checkpoint.folder)
        self.check_options(options)
        if not checkpoint.processor:
            raise CheckpointError(
                f"{checkpoint.folder} has neither preprocessor_config.json nor an image processor "
                "in processor_config.json; copy the one of the model it was tuned from"
            )
        image = self.image(checkpoint, config, options)
        marker, token = self.image_token(checkpoint, config)
        tower = checkpoint.view(*self.tower_prefixes)
        connector = checkpoint.view(*self.connector_prefixes)
        parts = ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            precision="fp32",
            weight_files=checkpoint.weight_files,
            tokenizer=checkpoint.tokenizer,
            chat_template=self.template(checkpoint),
            prompt=PromptSpec(
                image_marker=marker,
                image_token_id=token,
                content="parts",
                bos_token_id=checkpoint.bos_id(),
                stop_token_ids=checkpoint.stop_ids(),
                rules=generation_rules(checkpoint, config),
            ),
            image=image,
            visual_tokens=VisualTokens(count=self.most_tokens(config, image), compressor="none"),
            parts=(VisionGraph(self.tower(checkpoint, config, image, tower, connector)),),
            reference=TransformersReference(
                folder=checkpoint.folder,
                adapter=options.adapter,
                check_images=options.check_images,
            ),
            licenses=checkpoint.licenses,
            parameters=checkpoint.parameters,
        )
        return self.with_language(parts, checkpoint, config, options)

    def with_language(
        self,
        parts: ModelParts,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        options: ExportOptions,  # noqa: ARG002
    ) -> ModelParts:
        """What was gathered, and the language model."""
        language = FAMILIES.resolve(self.text_family(config))
        weights = language.weights(checkpoint, self.text_prefixes)
        spec = language.spec({**config["text_config"], **tied(config, weights)})
        return replace(parts, spec=self.decoder(config, spec), weights=weights)

    def check_options(self, options: ExportOptions) -> None:
        """Refuse what this family has no knob for.

        Raises:
            ConfigError: ``--tokens`` or ``--compressor``.
        """
        chosen = {"--tokens": options.tokens, "--compressor": options.compressor}
        if odd := [flag for flag, value in chosen.items() if value is not None]:
            raise ConfigError(f"{', '.join(odd)}: {self.model_type} gives its own number of tokens")

    def text_family(self, config: Mapping[str, Any]) -> str:
        """The registered text family of the decoder."""
        return str(config["text_config"]["model_type"])

    def decoder(self, config: Mapping[str, Any], spec: DecoderSpec) -> DecoderSpec:  # noqa: ARG002
        """The decoder's shape, where the family adds to its text model's."""
        return spec

    def image_token(self, checkpoint: Checkpoint, config: Mapping[str, Any]) -> tuple[str, int]:
        """The token that stands for one visual row: as text, and its id.

        Raises:
            CheckpointError: the tokenizer has no such token.
        """
        token_id = int(config.get("image_token_id", config.get("image_token_index", -1)))
        text = checkpoint.tokenizer.id_to_token(token_id)
        if text is None:
            raise CheckpointError(
                f"{checkpoint.folder}: config.json names the image token {token_id}, which the "
                "tokenizer does not have"
            )
        named = checkpoint.named_token("image_token")
        if named is not None and checkpoint.tokenizer.token_to_id(named) != token_id:
            raise CheckpointError(
                f"{checkpoint.folder}: the image token is {named!r} "
                f"({checkpoint.tokenizer.token_to_id(named)}) for the processor and {text!r} "
                f"({token_id}) for config.json: copy tokenizer and config from one model"
            )
        return str(text), token_id

    def template(self, checkpoint: Checkpoint) -> str:
        """The chat template.

        Raises:
            CheckpointError: the checkpoint has none.
        """
        if checkpoint.chat_template is None:
            raise CheckpointError(
                f"{checkpoint.folder} has no chat template (chat_template.jinja, or in "
                "tokenizer_config.json); copy the one of the model it was tuned from"
            )
        return checkpoint.chat_template

    def image(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], options: ExportOptions
    ) -> ImageSpec:
        """How pictures are prepared."""
        raise NotImplementedError

    def most_tokens(self, config: Mapping[str, Any], image: ImageSpec) -> int:
        """Visual tokens of one picture at most."""
        raise NotImplementedError

    def tower(
        self,
        checkpoint: Checkpoint,
        config: Mapping[str, Any],
        image: ImageSpec,
        tower: View,
        connector: View,
    ) -> Callable[[GraphBuilder, PrecisionPlan], TowerOutputs]:
        """What writes the vision graph."""
        raise NotImplementedError

    def reference_inputs(
        self, checkpoint: Checkpoint, config: Mapping[str, Any], case: ProbeCase
    ) -> dict[str, Array]:
        """The pictures of a case as the transformers model takes them, besides ``input_ids``."""
        raise NotImplementedError


def tied(config: Mapping[str, Any], weights: View) -> dict[str, bool]:
    """Whether the head is the embedding: what is stored decides unless the config says so."""
    stored = weights.has("lm_head.weight")
    flag = config.get("tie_word_embeddings")
    if flag is False and not stored:
        raise CheckpointError("the config unties lm_head, and the checkpoint has no lm_head.weight")
    return {"tie_word_embeddings": not stored or bool(flag)}


def normalized(tiles: Sequence[Array], mean: Triple, std: Triple) -> Array:
    """``(x / 255 - mean) / std`` of uint8 tiles, float32 ``(tiles, 3, height, width)``."""
    scaled = np.stack(tiles).astype(np.float32) / np.float32(255)
    shifted = (scaled - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(shifted.transpose(0, 3, 1, 2))


def all_tiles(case: ProbeCase) -> list[Array]:
    """Every tile of every picture of a case."""
    return [tile for n in range(len(case.pictures)) for tile in case.tiles(n)]


def declare_tiles(graph: GraphBuilder, size: int) -> None:
    """The input of encoders that take square tiles."""
    graph.input("image", "uint8", ("tiles", size, size, 3), "RGB pixels, tile by tile")


def finish(
    graph: GraphBuilder,
    outputs: Mapping[str, tuple[str, tuple[int | str, ...]]],
    *writers: TowerWriter,
) -> TowerOutputs:
    """Name the outputs and collect what the writers placed.

    Args:
        graph: of the encoder.
        outputs: output name -> the value it takes, and its shape.
        writers: that wrote the graph.
    """
    meanings = {
        "visual_tokens": "rows for the decoder",
        "features": "of the encoder",
        "embedding": "of the whole picture, of length 1",
        "pooled": "of the whole picture, in the encoder's own space",
        "text_embeds": "of every text, of length 1",
        "patch_embeds": "of every patch, comparable with texts, of length 1",
        "image_embeddings": "cells for the mask decoder",
        "masks": "logits, the unambiguous mask first",
        "scores": "overlap with the object that each mask is expected to have",
        "merged": "the same rows in the encoder's own order, for the certificate",
        "deepstack": "added behind the first decoder layers",
    }
    for name, (value, shape) in outputs.items():
        graph.node("Identity", [value], name, outputs=[name])
        graph.output(name, "float32", shape, meanings.get(name, ""))
    entries: dict[str, WeightEntry] = {}
    exceptions: dict[str, str] = {}
    for writer in writers:
        entries |= writer.entries
        exceptions |= writer.exceptions
    return TowerOutputs(weights=entries, exceptions=exceptions)
