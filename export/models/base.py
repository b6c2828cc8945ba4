"""What one model family must say of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.bundle.prompt import PromptSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint, View, generation_rules, reason
from edgevlm.export.model_parts import ExportOptions, ModelParts


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFamily:
    """A decoder-only language model of transformers.

    Args:
        model_type: as in ``config.json``.
        prefixes: tried before canonical weight names.
        qkv_bias: True or False where the family decides, None where ``attention_bias`` does.
        o_bias: likewise.
        mlp_bias: likewise, of ``mlp_bias``.
        qk_norm: RMSNorm over each query and key head.
        head_dim: where the config does not say; None is ``hidden_size / num_attention_heads``.
        activations: that the config may name, the default first.
        activation_key: what the config calls it.
        tied: whether the head is the embedding where the config does not say.
    """

    model_type: str
    prefixes: tuple[str, ...] = ("model.", "")
    qkv_bias: bool | None = None
    o_bias: bool | None = None
    mlp_bias: bool | None = None
    qk_norm: bool = False
    head_dim: int | None = None
    activations: tuple[str, ...] = ("silu",)
    activation_key: str = "hidden_act"
    tied: bool = False

    def gather(self, checkpoint: Checkpoint, options: ExportOptions) -> ModelParts:
        """Read a text checkpoint.

        Raises:
            CheckpointError: missing or damaged files.
            ConfigError: an option that is about pictures.
        """
        refuse_vision_options(options)
        spec = self.spec(checkpoint.config)
        weights = self.weights(checkpoint, self.prefixes)
        if (
            spec.tied_head
            and weights.has("lm_head.weight")
            and not weights.has("embed_tokens.weight")
        ):
            raise CheckpointError(
                f"{checkpoint.folder}: the embedding is missing; only lm_head.weight is there"
            )
        template = checkpoint.chat_template
        return ModelParts(
            name=checkpoint.name,
            family=self.model_type,
            license=checkpoint.license,
            spec=spec,
            weights=weights,
            tokenizer=checkpoint.tokenizer,
            chat_template=template,
            prompt=PromptSpec(
                chat_template="chat_template.jinja" if template else None,
                bos_token_id=checkpoint.bos_id(),
                stop_token_ids=checkpoint.stop_ids(),
                rules=generation_rules(checkpoint),
            ),
            precision="fp32",
            weight_files=checkpoint.weight_files,
            licenses=checkpoint.licenses,
            parameters=checkpoint.parameters,
        )

    def weights(self, checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> View:
        """The decoder's weights under canonical names."""
        return checkpoint.view(*prefixes)

    def more(self, config: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Further fields of the decoder's shape."""
        return {}

    def spec(self, config: Mapping[str, Any]) -> DecoderSpec:
        """The decoder's shape from a parsed ``config.json``.

        Raises:
            CheckpointError: a key is missing, or asks for something that is not lowered yet
                (sliding windows, another activation, an unknown rope scaling).
        """
        if config.get("use_sliding_window"):
            raise CheckpointError(f"{self.model_type}: sliding-window attention is not supported")
        activation = config.get(self.activation_key, self.activations[0])
        if activation not in self.activations:
            raise CheckpointError(
                f"{self.model_type}: activation {activation!r} is not supported, only "
                f"{', '.join(map(repr, self.activations))}"
            )
        attention_bias = bool(config.get("attention_bias", False))
        try:
            rope = rope_parameters(config)
            heads = int(config["num_attention_heads"])
            hidden = int(config["hidden_size"])
            return DecoderSpec(
                hidden_size=hidden,
                intermediate_size=int(config["intermediate_size"]),
                num_layers=int(config["num_hidden_layers"]),
                num_heads=heads,
                num_kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or self.head_dim or hidden // heads),
                vocab_size=int(config["vocab_size"]),
                max_positions=int(config.get("max_position_embeddings", 2048)),
                norm_eps=float(config.get("rms_norm_eps", 1e-6)),
                rope_theta=float(rope.get("rope_theta", 10000.0)),
                rope_scaling=_scaling(self.model_type, rope),
                tied_head=bool(config.get("tie_word_embeddings", self.tied)),
                qkv_bias=attention_bias if self.qkv_bias is None else self.qkv_bias,
                o_bias=attention_bias if self.o_bias is None else self.o_bias,
                mlp_bias=bool(config.get("mlp_bias", False))
                if self.mlp_bias is None
                else self.mlp_bias,
                qk_norm=self.qk_norm,
                **self.more(config),
            )
        except KeyError as exc:
            raise CheckpointError(f"config.json of {self.model_type} lacks {exc}") from exc
        except (ValidationError, ValueError, TypeError, ArithmeticError) as exc:
            raise CheckpointError(f"config.json of {self.model_type}: {reason(exc)}") from exc


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings, from the new key ``rope_parameters`` or the old ones."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if isinstance(rope.get("full_attention"), Mapping):  # one set for each kind of layer
        rope = dict(rope["full_attention"])
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return rope


def _scaling(model_type: str, rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(type="linear", factor=float(rope["factor"]))
    if kind == "llama3":
        return RopeScaling(
            type="llama3",
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_max_positions=int(rope["original_max_position_embeddings"]),
        )
    raise CheckpointError(f"{model_type}: rope type {kind!r} is not supported")


def refuse_vision_options(options: ExportOptions) -> None:
    """Raise ConfigError for every option that is about pictures."""
    chosen = {
        "--tokens": options.tokens,
        "--image-size": options.image_size,
        "--compressor": options.compressor,
        "--check-images": options.check_images,
    }
    if odd := [flag for flag, value in chosen.items() if value is not None]:
        raise ConfigError(f"{', '.join(odd)}: this model takes text only")
