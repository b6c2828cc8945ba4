"""The graph ``decoder``: rows of the answer, over its own cache and over the prompt.

One layer::

    x ── qkv ── GroupQueryAttention over past k,v ── out ── Add ── norm
      ── q ── attention over cross.N.key, cross.N.value ── out ── Add ── norm ── MLP ── Add ── norm

The caller binds ``present.*`` to the buffers of ``past_key_values.*``. ``hidden.first`` and
``hidden.last`` are for the certificate; nobody binds them while answering.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.export.decoder.linear import LinearWriter
from edgevlm.export.graph import MS
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.seq2seq.bart_layers import attended, embedded, mlp, qkv
from edgevlm.export.seq2seq.weights import OFFSET
from edgevlm.export.towers.writer import TowerWriter


def write_decoder(
    w: TowerWriter, spec: Seq2SeqSpec, plan: PrecisionPlan, capacity: int, progress: Progress
) -> LinearWriter:
    """Declare inputs and outputs, and write every node.

    Args:
        w: writer over the language model's weights.
        spec: its shape.
        plan: precisions, for the output head.
        capacity: tokens that the cache holds.
        progress: told after every layer.

    Returns:
        what the head was written with.
    """
    _declare(w, spec, capacity)
    x = embedded(w, spec, "decoder", _positions(w, capacity))
    for i in range(spec.decoder_layers):
        layer = f"decoder.layers.{i}"
        x = attended(w, spec, layer, "self_attn", x, _self_attention(w, spec, i, layer, x))
        x = attended(w, spec, layer, "encoder_attn", x, _cross_attention(w, spec, i, layer, x))
        x = mlp(w, spec, layer, x)
        if i == 0:
            w.graph.node("Identity", [x], "hidden.first", outputs=["hidden.first"])
        progress.step(f"decoder layer {i}")
    w.graph.node("Identity", [x], "hidden.last", outputs=["hidden.last"])
    return _head(w, spec, plan, x)


def _declare(w: TowerWriter, spec: Seq2SeqSpec, capacity: int) -> None:
    g, hidden, heads = w.graph, spec.hidden_size, spec.decoder_heads
    g.input("inputs_embeds", "float32", (1, "tokens", hidden), "token rows of the answer")
    g.input("seqlens_k", "int32", (1,), "tokens in the cache after this call, less one")
    g.input("total_sequence_length", "int32", (), "tokens in the cache after this call")
    g.output("logits", "float32", ("tokens", spec.vocab_size), "before any rule or sampling")
    for i in range(spec.decoder_layers):
        key, value = (1, heads, spec.head_dim, "rows"), (1, heads, "rows", spec.head_dim)
        g.input(f"cross.{i}.key", "float32", key, "of the prompt; stays for the whole answer")
        g.input(f"cross.{i}.value", "float32", value, "of the prompt; stays for the whole answer")
        cache = (1, heads, capacity, spec.head_dim)
        for part in ("key", "value"):
            g.input(f"past_key_values.{i}.{part}", "float32", cache, "updated in place")
            g.output(f"present.{i}.{part}", "float32", cache, "the same buffer as its past")
    for name in ("hidden.first", "hidden.last"):
        g.output(name, "float32", (1, "tokens", hidden), f"behind the {name[7:]} layer")


def _positions(w: TowerWriter, capacity: int) -> str:
    """Of this call's rows, which are the last in the cache."""
    g = w.graph
    table = w.source.get("decoder.embed_positions.weight")[OFFSET : OFFSET + capacity]
    name = w.tensor("decoder.embed_positions", table)
    shape = w.node("Shape", ["inputs_embeds"], "positions", start=1, end=2)
    count = w.node("Cast", [shape], "positions/count", to=TensorProto.INT32)
    tokens = w.node("Squeeze", [count, w.ints(0)], "positions")
    start = w.node("Sub", ["total_sequence_length", tokens], "positions")
    one = g.constant("positions.one", np.array(1, np.int32))
    which = w.node("Range", [start, "total_sequence_length", one], "positions")
    return w.node("Gather", [name, which], "positions", axis=0)


def _self_attention(w: TowerWriter, spec: Seq2SeqSpec, i: int, layer: str, x: str) -> str:
    place = f"{layer}/self_attn"
    past = [f"past_key_values.{i}.{part}" for part in ("key", "value")]
    return w.node(
        "GroupQueryAttention",
        [qkv(w, f"{layer}.self_attn", x, place), "", "", *past, "seqlens_k",
         "total_sequence_length"],
        place,
        outputs=[
            f"/{place}/GroupQueryAttention/output_0",
            f"present.{i}.key",
            f"present.{i}.value",
        ],
        domain=MS,
        num_heads=spec.decoder_heads,
        kv_num_heads=spec.decoder_heads,
        scale=1.0 / float(np.sqrt(spec.head_dim)),
        do_rotary=0,
    )  # fmt: skip


def _cross_attention(w: TowerWriter, spec: Seq2SeqSpec, i: int, layer: str, x: str) -> str:
    place = f"{layer}/encoder_attn"
    projected = w.linear(x, f"{layer}.encoder_attn.q_proj", f"{place}/q")
    scale = 1.0 / float(np.sqrt(spec.head_dim))
    factor = w.graph.constant(f"scale.{scale!r}", np.array(scale, np.float32))
    scaled = w.node("Mul", [projected, factor], f"{place}/queries")
    q = w.heads(scaled, spec.decoder_heads, spec.head_dim, f"{place}/queries")
    scores = w.node("MatMul", [q, f"cross.{i}.key"], f"{place}/scores")
    weights = w.node("Softmax", [scores], place, axis=-1)
    mixed = w.node("MatMul", [weights, f"cross.{i}.value"], f"{place}/values")
    back = w.node("Transpose", [mixed], f"{place}/back", perm=[0, 2, 1, 3])
    return w.node("Reshape", [back, w.ints(0, 0, -1)], f"{place}/back")


def _head(w: TowerWriter, spec: Seq2SeqSpec, plan: PrecisionPlan, x: str) -> LinearWriter:
    """The logits; a tied head lies row by row, as tokens are looked up in it."""
    name = "shared" if spec.tied_head else "lm_head"
    rows = w.node("Reshape", [x, w.ints(-1, spec.hidden_size)], name)
    linears = LinearWriter(w.graph, w.source, replace(plan, wide=True))
    logits = linears.linear(rows, [name], name, rows_first=True)
    w.graph.node("Identity", [logits], "logits", outputs=["logits"])
    return linears
