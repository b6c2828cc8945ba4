"""Gated short convolution of one decoder layer (LFM2), its state updated in place.

    x ── in_proj ── Split ── B ──┐
                          ├─ C ──┼──────────────────────────────────────── Mul ──
                          └─ x ─ Mul ── Concat with past_conv ── taps ──────┘
                                             └ last columns ── present_conv

A tap is a slice of the sequence times one weight a channel. ONNX Runtime's own operator for this,
``CausalConvWithState``, is younger than the oldest version that bundles run on.

Source: LFM2 (Liquid AI, 2025), "double-gated short-range LIV convolutions"; transformers'
``Lfm2ShortConv``.
"""

from __future__ import annotations

import numpy as np

from edgevlm.export.decoder.writing import DecoderWriter

END = np.iinfo(np.int64).max


def declare_state(w: DecoderWriter, layer: int) -> None:
    """The last inputs of a layer's convolution, bound to one buffer as keys and values are."""
    shape = (1, (w.spec.conv_kernel or 0) - 1, w.spec.hidden_size)
    w.graph.input(f"past_conv.{layer}", w.dtype, shape, "last inputs, updated in place")
    w.graph.output(f"present_conv.{layer}", w.dtype, shape, "the same buffer as its past")


def short_conv(w: DecoderWriter, layer: int, x: str) -> str:
    """What a layer mixes, ``(1, tokens, hidden_size)``, before its output projection."""
    g, spec = w.graph, w.spec
    base, place = f"layers.{layer}.conv", f"layers.{layer}/conv"
    kernel = spec.conv_kernel or 0
    all_three = w.linears.linear(x, [f"{base}.in_proj"], f"{place}/in", bias=spec.conv_bias)
    before, after, value = (f"/{place}/Split/{part}" for part in ("b", "c", "x"))
    sizes = g.constant("split.conv", np.array([spec.hidden_size] * 3, np.int64))
    g.node("Split", [all_three, sizes], place, outputs=[before, after, value], axis=-1)
    gated = g.node("Mul", [before, value], f"{place}/gated")
    # Nothing else reads the past, so that its buffer may be overwritten behind this node.
    columns = g.node("Concat", [f"past_conv.{layer}", gated], f"{place}/columns", axis=1)
    present = [f"present_conv.{layer}"]
    _rows(w, columns, 1 - kernel, END, f"{place}/present", present)
    weights = w.source.get(f"{base}.conv.weight").reshape(spec.hidden_size, kernel)
    mixed = ""
    for tap in range(kernel):
        rows = gated
        if tap < kernel - 1:
            rows = _rows(w, columns, tap, tap + 1 - kernel, f"{place}/tap.{tap}")
        name = f"{base}.conv.weight.{tap}"
        g.weight(name, np.ascontiguousarray(weights[:, tap]).astype(w.dtype))
        product = g.node("Mul", [rows, name], f"{place}/tap.{tap}")
        mixed = g.node("Add", [mixed, product], f"{place}/tap.{tap}") if mixed else product
    if spec.conv_bias:
        name = f"{base}.conv.bias"
        g.weight(name, w.source.get(name).astype(w.dtype))
        mixed = g.node("Add", [mixed, name], f"{place}/bias")
    return g.node("Mul", [after, mixed], f"{place}/mixed")


def _rows(
    w: DecoderWriter, x: str, start: int, end: int, place: str, outputs: list[str] | None = None
) -> str:
    """Positions from ``start`` to before ``end`` of ``(1, positions, width)``."""
    g = w.graph
    ends = [g.constant(f"slice.at.{n}", np.array([n], np.int64)) for n in (start, end)]
    axis = g.constant("slice.axis", np.array([1], np.int64))
    return g.node("Slice", [x, *ends, axis], place, outputs=outputs)
