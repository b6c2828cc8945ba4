"""Transformer blocks of encoders: vision towers and text towers.

One block::

    x ── norm1 ── attention ── [layer scale] ── Add ── norm2 ── MLP ── [layer scale] ── Add
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.writer import Activation, TowerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class VitNames:
    """What a family calls the weights, relative to the tower; ``{i}`` is the block."""

    patch: str = "embeddings.patch_embedding"
    block: str = "encoder.layers.{i}"
    norm1: str = "layer_norm1"
    norm2: str = "layer_norm2"
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    out: str = "self_attn.out_proj"
    up: str = "mlp.fc1"
    down: str = "mlp.fc2"
    gated: bool = False  # the first linear layer gives a gate and, behind it, what it lets through
    scale1: str | None = None
    scale2: str | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    pre_norm: str | None = None
    post_norm: str | None = "post_layernorm"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """Shape of a stack of transformer blocks.

    Args:
        hidden_size: width.
        heads: a divisor of it.
        layers: how many blocks are run; fewer than there are, where a family takes an earlier
            block's output.
        eps: of every norm.
        activation: of the MLP.
        rms: RMSNorm in place of LayerNorm.
        qkv_bias: query, key and value have biases.
        names: of the weights.
        place: before the names of the nodes, where a graph holds several stacks.
    """

    hidden_size: int
    heads: int
    layers: int
    eps: float
    activation: Activation
    rms: bool = False
    qkv_bias: bool = True
    names: VitNames = VitNames()
    place: str = ""


def write_blocks(w: TowerWriter, spec: BlockSpec, x: str, mask: str | None = None) -> str:
    """Write the norm before the blocks, the blocks, and the norm behind them.

    Args:
        w: writer over the weights.
        spec: their shape.
        x: embeddings, float32 ``(batch, rows, hidden_size)``.
        mask: added to the attention scores ``(batch, heads, rows, rows)``, if given.

    Returns:
        name of the output, of the same shape.

    Raises:
        CheckpointError: heads that do not divide the width.
    """
    if spec.hidden_size % spec.heads:
        raise CheckpointError(
            f"the encoder has {spec.heads} heads, no divisor of its width {spec.hidden_size}"
        )
    names = spec.names
    if names.pre_norm is not None:
        x = _norm(w, spec, x, names.pre_norm, f"{spec.place}pre_norm")
    for i in range(spec.layers):
        x = _block(w, spec, i, x, mask)
    if names.post_norm is not None:
        x = _norm(w, spec, x, names.post_norm, f"{spec.place}post_norm")
    return x


def _norm(w: TowerWriter, spec: BlockSpec, x: str, name: str, place: str) -> str:
    if spec.rms:
        return w.rms_norm(x, name, spec.eps, place)
    return w.layer_norm(x, name, spec.eps, place)


def _block(w: TowerWriter, spec: BlockSpec, i: int, x: str, mask: str | None) -> str:
    names, place = spec.names, f"{spec.place}blocks.{i}"
    base = names.block.format(i=i)
    normed = _norm(w, spec, x, f"{base}.{names.norm1}", f"{place}/norm1")
    mixed = _attention(w, spec, base, normed, f"{place}/attn", mask)
    x = w.node("Add", [x, _scaled(w, mixed, base, names.scale1, place)], f"{place}/attn")
    normed = _norm(w, spec, x, f"{base}.{names.norm2}", f"{place}/norm2")
    mixed = _mlp(w, spec, base, normed, f"{place}/mlp")
    return w.node("Add", [x, _scaled(w, mixed, base, names.scale2, place)], f"{place}/mlp")


def _mlp(w: TowerWriter, spec: BlockSpec, base: str, x: str, place: str) -> str:
    up = w.linear(x, f"{base}.{spec.names.up}", f"{place}/up")
    if spec.names.gated:
        gate, value = f"/{place}/Split/gate", f"/{place}/Split/value"
        w.node("Split", [up], place, outputs=[gate, value], axis=-1, num_outputs=2)
        active = w.node(
            "Mul", [w.activation(gate, spec.activation, place), value], f"{place}/gated"
        )
    else:
        active = w.activation(up, spec.activation, place)
    return w.linear(active, f"{base}.{spec.names.down}", f"{place}/down")


def _scaled(w: TowerWriter, x: str, base: str, name: str | None, place: str) -> str:
    """Layer scale, where there is one."""
    if name is None:
        return x
    weight = w.tensor(f"{base}.{name}", w.source.get(f"{base}.{name}"))
    return w.node("Mul", [x, weight], f"{place}/{name}")


def _attention(
    w: TowerWriter, spec: BlockSpec, base: str, x: str, place: str, mask: str | None
) -> str:
    names, width = spec.names, spec.hidden_size // spec.heads
    parts = [f"{base}.{n}" for n in (names.query, names.key, names.value)]
    qkv = w.linear(x, parts, f"{place}/qkv", bias=spec.qkv_bias)
    split = [f"/{place}/Split/{p}" for p in "qkv"]
    sizes = w.ints(*[spec.hidden_size] * 3)
    w.node("Split", [qkv, sizes], place, outputs=split, axis=-1)
    for n, norm in enumerate((names.query_norm, names.key_norm)):
        if norm is not None:
            split[n] = w.rms_norm(split[n], f"{base}.{norm}", spec.eps, f"{place}/{norm}")
    q, k, v = (
        w.heads(s, spec.heads, width, f"{place}/{p}") for s, p in zip(split, "qkv", strict=True)
    )
    mixed = w.attention(q, k, v, 1.0 / float(np.sqrt(width)), place, mask)
    return w.linear(mixed, f"{base}.{names.out}", f"{place}/out")
