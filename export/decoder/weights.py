"""Where a decoder's weights come from, under one set of names.

Canonical names are those of a Hugging Face Llama checkpoint without the ``model.`` prefix:
``embed_tokens.weight``, ``layers.0.self_attn.q_proj.weight``, ``norm.weight``, ``lm_head.weight``.
Matrices are ``(out, in)``; rotary halves are not interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32


class WeightSource(Protocol):
    """Weights by canonical name, read when asked for."""

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        ...

    def get(self, name: str) -> Float32:
        """The weight as float32.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        ...

    def blocks(self, name: str) -> QuantBlocks | None:
        """The weight as stored, if it already has a layout that is kept without loss."""
        ...


def check_shapes(spec: DecoderSpec, source: WeightSource) -> None:
    """Hold every weight that the decoder needs against its shape.

    Raises:
        CheckpointError: a weight is missing or has another shape than the configuration makes it,
            or there are more layers than it says.
    """
    for name, wanted in _shapes(spec):
        if (found := source.shape(name)) != wanted:
            raise CheckpointError(f"{name} has the shape {found}; the configuration asks {wanted}")
    if source.has(f"layers.{spec.num_layers}.input_layernorm.weight"):
        raise CheckpointError(
            f"the checkpoint has more layers than the {spec.num_layers} of its configuration"
        )


def _shapes(spec: DecoderSpec) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    attention = {
        "self_attn.q_proj": (spec.q_size, hidden, spec.qkv_bias),
        "self_attn.k_proj": (spec.kv_size, hidden, spec.qkv_bias),
        "self_attn.v_proj": (spec.kv_size, hidden, spec.qkv_bias),
        "self_attn.o_proj": (hidden, spec.q_size, spec.o_bias),
    }
    convolution = {
        "conv.in_proj": (3 * hidden, hidden, spec.conv_bias),
        "conv.out_proj": (hidden, hidden, spec.conv_bias),
    }
    mlp = {
        "mlp.gate_proj": (inner, hidden, spec.mlp_bias),
        "mlp.up_proj": (inner, hidden, spec.mlp_bias),
        "mlp.down_proj": (hidden, inner, spec.mlp_bias),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if spec.sandwich_norms:
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    head_norms = ("self_attn.q_norm", "self_attn.k_norm") if spec.qk_norm else ()
    yield "embed_tokens.weight", (spec.vocab_size, hidden)
    if not spec.tied_head:
        yield "lm_head.weight", (spec.vocab_size, hidden)
    yield "norm.weight", (hidden,)
    for i in range(spec.num_layers):
        for name, size in norms.items():
            yield f"layers.{i}.{name}.weight", (size,)
        mixing = convolution if spec.convolves(i) else attention
        if spec.convolves(i):
            yield f"layers.{i}.conv.conv.weight", (hidden, 1, spec.conv_kernel or 0)
            if spec.conv_bias:
                yield f"layers.{i}.conv.conv.bias", (hidden,)
        else:
            for name in head_norms:
                yield f"layers.{i}.{name}.weight", (spec.head_dim,)
        for name, (out, width, bias) in (mixing | mlp).items():
            yield f"layers.{i}.{name}.weight", (out, width)
            if bias:
                yield f"layers.{i}.{name}.bias", (out,)
