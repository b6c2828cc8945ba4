"""What a BART's weights are called, and what shapes they have.

Canonical names are those of transformers' ``BartModel``: ``shared.weight``,
``encoder.layers.0.self_attn.q_proj.weight``, ``decoder.layers.0.encoder_attn.k_proj.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.decoder.weights import WeightSource

OFFSET = 2  # rows of a position table before the first position
HEAD_STEP = 8  # of heads that GroupQueryAttention takes


def check_seq2seq(spec: Seq2SeqSpec, source: WeightSource) -> None:
    """Hold every weight against its shape.

    Raises:
        CheckpointError: a weight is missing or has another shape than the configuration makes it,
            there are more layers than it says, or the decoder's heads have a width that the
            lowering has no operator for.
    """
    if spec.head_dim % HEAD_STEP:
        raise CheckpointError(
            f"the decoder's heads are {spec.head_dim} wide; the attention operator takes multiples "
            f"of {HEAD_STEP}"
        )
    for name, wanted in _shapes(spec):
        if (found := source.shape(name)) != wanted:
            raise CheckpointError(f"{name} has the shape {found}; the configuration asks {wanted}")
    for half, layers in (("encoder", spec.encoder_layers), ("decoder", spec.decoder_layers)):
        if source.has(f"{half}.layers.{layers}.fc1.weight"):
            raise CheckpointError(
                f"the checkpoint has more {half} layers than the {layers} of its configuration"
            )


def _shapes(spec: Seq2SeqSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = spec.hidden_size
    yield "shared.weight", (spec.vocab_size, hidden)
    if not spec.tied_head:
        yield "lm_head.weight", (spec.vocab_size, hidden)
    halves = (
        ("encoder", spec.encoder_layers, spec.encoder_ffn_size, ("self_attn",)),
        ("decoder", spec.decoder_layers, spec.decoder_ffn_size, ("self_attn", "encoder_attn")),
    )
    for half, layers, inner, attentions in halves:
        positions = spec.source_capacity if half == "encoder" else spec.max_positions
        yield f"{half}.embed_positions.weight", (positions + OFFSET, hidden)
        yield from _norm(f"{half}.layernorm_embedding", hidden)
        for i in range(layers):
            base = f"{half}.layers.{i}"
            for attention in attentions:
                for part in ("q", "k", "v", "out"):
                    yield from _linear(f"{base}.{attention}.{part}_proj", hidden, hidden)
                yield from _norm(f"{base}.{attention}_layer_norm", hidden)
            yield from _linear(f"{base}.fc1", inner, hidden)
            yield from _linear(f"{base}.fc2", hidden, inner)
            yield from _norm(f"{base}.final_layer_norm", hidden)


def _linear(name: str, out: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, width)
    yield f"{name}.bias", (out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
