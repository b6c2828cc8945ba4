"""The graph ``encoder``: the prompt's rows, and what every decoder layer attends to of them.

::

    inputs_embeds ── positions, norm ── layers ── encoded ──┬── cross.0.key, cross.0.value
                                                            └── cross.1.key, ...

Cross keys lie transposed, ``(1, heads, head_dim, rows)``, as the decoder multiplies by them.
"""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.export.progress import Progress
from edgevlm.export.seq2seq.bart_layers import attended, embedded, mlp, qkv
from edgevlm.export.seq2seq.weights import OFFSET
from edgevlm.export.towers.writer import TowerWriter


def write_encoder(w: TowerWriter, spec: Seq2SeqSpec, progress: Progress) -> None:
    """Declare inputs and outputs, and write every node.

    Args:
        w: writer over the language model's weights.
        spec: its shape.
        progress: told after every layer.
    """
    g, hidden = w.graph, spec.hidden_size
    g.input("inputs_embeds", "float32", (1, "rows", hidden), "visual and token rows of the prompt")
    x = embedded(w, spec, "encoder", _positions(w))
    for i in range(spec.encoder_layers):
        layer = f"encoder.layers.{i}"
        mixed = _attention(w, spec, f"{layer}.self_attn", x, f"{layer}/self_attn")
        x = mlp(w, spec, layer, attended(w, spec, layer, "self_attn", x, mixed))
        progress.step(f"encoder layer {i}")
    g.node("Identity", [x], "encoded", outputs=["encoded"])
    g.output("encoded", "float32", (1, "rows", hidden), "the prompt's rows behind the last layer")
    for i in range(spec.decoder_layers):
        _cross(w, spec, i, x)


def _positions(w: TowerWriter) -> str:
    """Of as many rows as there are."""
    table = w.source.get("encoder.embed_positions.weight")[OFFSET:]
    name = w.tensor("encoder.embed_positions", table)
    count = w.node("Shape", ["inputs_embeds"], "positions", start=1, end=2)
    return w.node("Slice", [name, w.ints(0), count, w.ints(0)], "positions")


def _attention(w: TowerWriter, spec: Seq2SeqSpec, base: str, x: str, place: str) -> str:
    split = [f"/{place}/Split/{part}" for part in "qkv"]
    sizes = w.ints(*[spec.hidden_size] * 3)
    w.node("Split", [qkv(w, base, x, place), sizes], place, outputs=split, axis=-1)
    width = spec.hidden_size // spec.encoder_heads
    q, k, v = (
        w.heads(part, spec.encoder_heads, width, f"{place}/{name}")
        for part, name in zip(split, "qkv", strict=True)
    )
    return w.attention(q, k, v, 1.0 / float(np.sqrt(width)), place)


def _cross(w: TowerWriter, spec: Seq2SeqSpec, layer: int, x: str) -> None:
    base, place = f"decoder.layers.{layer}.encoder_attn", f"cross/{layer}"
    both = w.linear(x, [f"{base}.k_proj", f"{base}.v_proj"], f"{place}/kv")
    halves = [f"/{place}/Split/{part}" for part in "kv"]
    w.node("Split", [both, w.ints(*[spec.hidden_size] * 2)], place, outputs=halves, axis=-1)
    heads = w.ints(0, 0, spec.decoder_heads, spec.head_dim)
    shapes: dict[str, tuple[list[int], tuple[int | str, ...]]] = {
        "key": ([0, 2, 3, 1], (1, spec.decoder_heads, spec.head_dim, "rows")),
        "value": ([0, 2, 1, 3], (1, spec.decoder_heads, "rows", spec.head_dim)),
    }
    for half, (part, (order, shape)) in zip(halves, shapes.items(), strict=True):
        split = w.node("Reshape", [half, heads], f"{place}/{part}")
        name = f"cross.{layer}.{part}"
        w.node("Transpose", [split], f"{place}/{part}", outputs=[name], perm=order)
        w.graph.output(name, "float32", shape, "for the decoder's input of this name")
