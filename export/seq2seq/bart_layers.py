"""What both halves of a BART are written with: every sum has its norm behind it."""

from __future__ import annotations

from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.export.towers.writer import TowerWriter


def embedded(w: TowerWriter, spec: Seq2SeqSpec, half: str, positions: str) -> str:
    """The input rows with their positions, normed.

    Args:
        w: writer.
        spec: shape of the model.
        half: ``encoder`` or ``decoder``.
        positions: float32 ``(rows, hidden_size)``, of the input's rows.
    """
    x = w.node("Add", ["inputs_embeds", positions], "embedding")
    return w.layer_norm(x, f"{half}.layernorm_embedding", spec.norm_eps, "embedding/norm")


def qkv(w: TowerWriter, base: str, x: str, place: str) -> str:
    """Queries, keys and values side by side."""
    return w.linear(x, [f"{base}.{part}_proj" for part in "qkv"], f"{place}/qkv")


def attended(w: TowerWriter, spec: Seq2SeqSpec, layer: str, name: str, x: str, mixed: str) -> str:
    """The sum behind an attention, normed.

    Args:
        w: writer.
        spec: shape of the model.
        layer: name of the layer.
        name: of the attention within it.
        x: what the layer had.
        mixed: what the attention found, before its output projection.
    """
    place = f"{layer}/{name}"
    out = w.linear(mixed, f"{layer}.{name}.out_proj", f"{place}/out")
    total = w.node("Add", [x, out], place)
    return w.layer_norm(total, f"{layer}.{name}_layer_norm", spec.norm_eps, f"{place}/norm")


def mlp(w: TowerWriter, spec: Seq2SeqSpec, layer: str, x: str) -> str:
    """The MLP, its sum, and the layer's last norm."""
    up = w.activation(
        w.linear(x, f"{layer}.fc1", f"{layer}/mlp/up"), spec.activation, f"{layer}/mlp"
    )
    total = w.node("Add", [x, w.linear(up, f"{layer}.fc2", f"{layer}/mlp/down")], f"{layer}/mlp")
    return w.layer_norm(total, f"{layer}.final_layer_norm", spec.norm_eps, f"{layer}/norm")
