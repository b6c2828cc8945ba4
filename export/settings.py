"""What the user's options and the model make of each other: precisions, context, reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from edgevlm.bundle.manifest import Precision
from edgevlm.errors import ConfigError
from edgevlm.export.calibrate.effort import tokens_within
from edgevlm.export.calibrate.pictures import PictureRows
from edgevlm.export.calibrate.text import calibration_ids
from edgevlm.export.decoder.part import DecoderPart
from edgevlm.export.model_parts import ExportOptions, ModelParts, Reference
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.probe import GREEDY_STEPS, probe_texts
from edgevlm.export.reference.direct import DirectReference

DEFAULT_CONTEXT = 2048
GROUPS = (32, 64, 128)
# Query, key and value decide where attention looks: in 4 bits they cost more accuracy than all
# other layers together, and they are small. The output head has a tiny model's whole vocabulary
# to tell apart, and shares its table with the embedding.
INT4_EXCEPTIONS: dict[str, Precision] = {
    "embed_tokens": "int8",
    "lm_head": "int8",
    "*.self_attn.q_proj": "int8",
    "*.self_attn.k_proj": "int8",
    "*.self_attn.v_proj": "int8",
}


def precision_plan(options: ExportOptions, parts: ModelParts) -> PrecisionPlan:
    """Which precision each weight gets.

    Raises:
        ConfigError: there is no such precision or group.
    """
    default = options.precision or parts.precision
    if default not in get_args(Precision):
        raise ConfigError(f"--precision {default}: one of {', '.join(get_args(Precision))}")
    if options.group not in GROUPS:
        raise ConfigError(f"--group {options.group}: one of {', '.join(map(str, GROUPS))}")
    overrides: dict[str, Precision] = dict(options.overrides)
    if default == "int4":
        held = {**parts.held, **INT4_EXCEPTIONS}
        overrides |= {k: v for k, v in held.items() if k not in overrides}
    return PrecisionPlan(
        default=default, symmetric=options.symmetric, group=options.group, overrides=overrides
    )


def reference_of(parts: ModelParts) -> Reference | None:
    """The source model: the recipe's, or the decoder in plain numpy."""
    if parts.reference is not None:
        return parts.reference
    if parts.spec is None or parts.weights is None or parts.tokenizer is None:
        return None
    return DirectReference(spec=parts.spec, weights=parts.weights, tokenizer=parts.tokenizer)


def decoder_part(
    parts: ModelParts,
    options: ExportOptions,
    plan: PrecisionPlan,
    capacity: int,
    stage: Callable[[], None],
) -> DecoderPart | None:
    """What writes the decoder, where a model has one that is not among its parts.

    Args:
        parts: the gathered model.
        options: what the user chose.
        plan: precisions.
        capacity: tokens of the KV cache.
        stage: writes the manifest of the parts that are there already.
    """
    if parts.spec is None or parts.weights is None:
        return None
    ids: tuple[int, ...] = ()
    pictures = None
    if plan.default == "int4" and parts.tokenizer is not None and options.calibrate:
        most = tokens_within(parts.spec)
        ids = calibration_ids(parts.tokenizer, parts.spec.vocab_size, most)
        if parts.image is not None:
            pictures = PictureRows(stage, options.check_images)
    return DecoderPart(
        spec=parts.spec,
        weights=parts.weights,
        capacity=capacity,
        calibration=ids,
        pictures=pictures,
    )


def capacity_of(options: ExportOptions, parts: ModelParts) -> int:
    """Tokens of the KV cache; 0 for a model without a decoder."""
    if parts.spec is None or parts.tokenizer is None:
        return 0
    limit = parts.spec.max_positions
    visual = parts.visual_tokens.count if parts.visual_tokens else 0
    before, after = probe_texts(parts.tokenizer, parts.spec.vocab_size)
    least = len(before) + visual + len(after) + GREEDY_STEPS  # the parity probe must fit
    if limit < least:
        raise ConfigError(f"{parts.name} holds {limit} tokens; the parity probe has {least}")
    roomy = max(DEFAULT_CONTEXT, visual + DEFAULT_CONTEXT // 2)
    wanted = min(roomy, limit) if options.max_context is None else options.max_context
    if not least <= wanted <= limit:
        raise ConfigError(f"--max-context {wanted}: {parts.name} takes {least} to {limit} tokens")
    return wanted
