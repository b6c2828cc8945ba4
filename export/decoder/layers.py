"""The layers of a decoder, in whatever operators a dialect writes them.

One layer::

    residual, skip ── norm ──┬── residual
                       │     │
              attention or short convolution ── o_proj ── [RMSNorm] ── skip
                             │                                           │
                           norm ─────────────────────────────────────────┴── residual
                             │
                 gate_up ── act(gate) * up ── down_proj ── [RMSNorm] ── skip

The norms in brackets are Gemma's; LFM2 has short convolutions in place of most attentions
(``short_conv.py``). In the last layer everything behind the attention runs only for the rows whose
logits are wanted: the others have left their keys and values in the cache and nothing more is asked
of them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgevlm.export.decoder.short_conv import short_conv
from edgevlm.export.decoder.writing import DecoderWriter
from edgevlm.export.progress import Progress


class Dialect(Protocol):
    """What a lowering writes in its own operators."""

    def attention(self, layer: int, x: str) -> str:
        """What a layer attends to, ``(1, tokens, heads * head_dim)``."""
        ...

    def activation(self, gate: str, place: str) -> str:
        """The MLP's non-linearity."""
        ...

    def wanted_rows(self, x: str, place: str) -> str:
        """Of ``(1, tokens, width)`` the rows whose logits are wanted."""
        ...

    def watch(self, name: str, residual: str, skip: str) -> None:
        """The residual stream behind the first layer (``skip`` is to be added) and the last."""
        ...


def write_layers(w: DecoderWriter, dialect: Dialect, progress: Progress) -> None:
    """Every layer, the last norm and the output head: ``logits``.

    Args:
        w: writer of the graph, whose inputs are declared.
        dialect: the lowering's own operators.
        progress: told after every layer.
    """
    g, spec = w.graph, w.spec
    residual, skip = "inputs_embeds", ""
    for i in range(spec.num_layers):
        residual, skip = _layer(w, dialect, i, residual, skip)
        if i < spec.deepstack_levels:
            skip = _deepstack(w, dialect, i, skip)
        if i == 0:
            dialect.watch("hidden.first", residual, skip)
        progress.step(f"layer {i + 1}/{spec.num_layers}")
    normed, last = w.skip_norm(residual, skip, "norm", "norm")
    dialect.watch("hidden.last", last, "")
    shape = g.constant("shape.rows", np.array([-1, spec.hidden_size], np.int64))
    rows = g.node("Reshape", [normed, shape], "lm_head")
    name = "embed_tokens" if spec.tied_head else "lm_head"
    logits = w.linears.linear(rows, [name], name, rows_first=True)
    if spec.logit_softcap is not None:
        logits = w.softcap(logits, spec.logit_softcap, "logit_softcap")
    g.node("Identity", [logits], "logits", outputs=["logits"])
    progress.step("head")


def _layer(w: DecoderWriter, dialect: Dialect, i: int, residual: str, skip: str) -> tuple[str, str]:
    spec, base = w.spec, f"layers.{i}"
    normed, residual = w.skip_norm(
        residual, skip, f"{base}.input_layernorm", f"{base}/input_layernorm"
    )
    if spec.convolves(i):
        mixed, out, bias = short_conv(w, i, normed), "conv.out_proj", spec.conv_bias
    else:
        mixed, out, bias = dialect.attention(i, normed), "self_attn.o_proj", spec.o_bias
    if i == spec.num_layers - 1:
        mixed = dialect.wanted_rows(mixed, f"{base}/mixed")
        residual = dialect.wanted_rows(residual, f"{base}/residual")
    place = f"{base}/conv/out" if spec.convolves(i) else f"{base}/attn/o"
    skip = w.linears.linear(mixed, [f"{base}.{out}"], place, bias=bias)
    before_mlp = "post_attention_layernorm"
    if spec.sandwich_norms:
        skip = _norm(w, skip, base, "post_attention_layernorm")
        before_mlp = "pre_feedforward_layernorm"
    normed, residual = w.skip_norm(residual, skip, f"{base}.{before_mlp}", f"{base}/{before_mlp}")
    found = _mlp(w, dialect, base, normed)
    if spec.sandwich_norms:
        found = _norm(w, found, base, "post_feedforward_layernorm")
    return residual, found


def _norm(w: DecoderWriter, x: str, base: str, name: str) -> str:
    return w.norm(x, w.norm_weight(f"{base}.{name}"), f"{base}/{name}")


def _deepstack(w: DecoderWriter, dialect: Dialect, level: int, skip: str) -> str:
    g, place = w.graph, f"deepstack/{level}"
    index = g.constant(f"deepstack.{level}", np.array(level, np.int64))
    features = g.node("Gather", ["deepstack", index], place, axis=0)
    if level == w.spec.num_layers - 1:
        features = dialect.wanted_rows(features, f"{place}/features")
    return g.node("Add", [skip, features], place)


def _mlp(w: DecoderWriter, dialect: Dialect, base: str, x: str) -> str:
    g, bias = w.graph, w.spec.mlp_bias
    names = [f"{base}.mlp.{p}_proj" for p in ("gate", "up", "down")]
    place = f"{base}/mlp"
    both = w.linears.linear(x, names[:2], f"{place}/gate_up", bias=bias)
    gate, up = f"/{place}/Split/gate", f"/{place}/Split/up"
    sizes = g.constant("split.gate_up", np.array([w.spec.intermediate_size] * 2, np.int64))
    g.node("Split", [both, sizes], place, outputs=[gate, up], axis=-1)
    product = g.node("Mul", [dialect.activation(gate, place), up], f"{place}/product")
    return w.linears.linear(product, names[2:], f"{place}/down", bias=bias)
