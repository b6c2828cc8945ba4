"""Plain vision transformers of one input size: SigLIP, CLIP, InternViT, DINOv2.

One block::

    x ── norm1 ── attention ── [layer scale] ── Add ── norm2 ── MLP ── [layer scale] ── Add
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.writer import Activation, TowerWriter
from edgevlm.tensors import Float32


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
    scale1: str | None = None
    scale2: str | None = None
    query_norm: str | None = None
    key_norm: str | None = None
    pre_norm: str | None = None
    post_norm: str | None = "post_layernorm"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VitSpec:
    """Shape of a plain vision transformer.

    Args:
        hidden_size: width.
        heads: a divisor of it.
        layers: how many blocks are run; fewer than there are, where a family takes an earlier
            block's output.
        eps: of every norm.
        activation: of the MLP.
        image_size: height and width of a tile.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        positions: float32 ``(prefix + patches, hidden_size)``, for this image size.
        prefix: float32 ``(tokens, hidden_size)`` before the patches, such as the class token.
        rms: RMSNorm in place of LayerNorm.
        qkv_bias: query, key and value have biases.
        names: of the weights.
    """

    hidden_size: int
    heads: int
    layers: int
    eps: float
    activation: Activation
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    positions: Float32
    prefix: Float32 | None = None
    rms: bool = False
    qkv_bias: bool = True
    names: VitNames = VitNames()


def write_vit(w: TowerWriter, spec: VitSpec, image: str = "image") -> str:
    """Write the tower.

    Args:
        w: writer over the tower's weights.
        spec: its shape.
        image: input, uint8 ``(tiles, image_size, image_size, 3)``.

    Returns:
        name of the output, float32 ``(tiles, prefix + patches, hidden_size)``.
    """
    names = spec.names
    kernel = w.source.get(f"{names.patch}.weight")
    bias_name = f"{names.patch}.bias"
    bias = w.source.get(bias_name) if w.source.has(bias_name) else None
    _check(spec, kernel.shape)
    x = w.patches(image, kernel, bias, spec.mean, spec.std, "patches")
    if spec.prefix is not None:
        x = _with_prefix(w, x, spec.prefix)
    x = w.node("Add", [x, w.tensor("positions", spec.positions[None])], "positions")
    if names.pre_norm is not None:
        x = _norm(w, spec, x, names.pre_norm, "pre_norm")
    for i in range(spec.layers):
        x = _block(w, spec, i, x)
    if names.post_norm is not None:
        x = _norm(w, spec, x, names.post_norm, "post_norm")
    return x


def _check(spec: VitSpec, kernel: tuple[int, ...]) -> None:
    """Hold what the configuration says against the weights.

    Raises:
        CheckpointError: they disagree.
    """
    side = spec.image_size // kernel[-1]
    prefix = 0 if spec.prefix is None else len(spec.prefix)
    wanted = (prefix + side * side, spec.hidden_size)
    if kernel[0] != spec.hidden_size or spec.positions.shape != wanted:
        raise CheckpointError(
            f"the vision tower's patch kernel is {kernel} and its position table "
            f"{spec.positions.shape}; the configuration makes the table {wanted}"
        )
    if spec.hidden_size % spec.heads:
        raise CheckpointError(
            f"the vision tower has {spec.heads} heads, no divisor of its width {spec.hidden_size}"
        )


def _with_prefix(w: TowerWriter, x: str, prefix: Float32) -> str:
    """The class token and its like before every tile's patches."""
    count = w.node("Shape", [x], "prefix", start=0, end=1)
    rest = w.ints(*prefix.shape)
    shape = w.node("Concat", [count, rest], "prefix", axis=0)
    rows = w.node("Expand", [w.tensor("prefix", prefix[None]), shape], "prefix")
    return w.node("Concat", [rows, x], "prefix/rows", axis=1)


def _norm(w: TowerWriter, spec: VitSpec, x: str, name: str, place: str) -> str:
    if spec.rms:
        return w.rms_norm(x, name, spec.eps, place)
    return w.layer_norm(x, name, spec.eps, place)


def _block(w: TowerWriter, spec: VitSpec, i: int, x: str) -> str:
    names, place = spec.names, f"blocks.{i}"
    base = names.block.format(i=i)
    normed = _norm(w, spec, x, f"{base}.{names.norm1}", f"{place}/norm1")
    mixed = _attention(w, spec, base, normed, f"{place}/attn")
    x = w.node("Add", [x, _scaled(w, mixed, base, names.scale1, place)], f"{place}/attn")
    normed = _norm(w, spec, x, f"{base}.{names.norm2}", f"{place}/norm2")
    up = w.linear(normed, f"{base}.{names.up}", f"{place}/mlp/up")
    active = w.activation(up, spec.activation, f"{place}/mlp")
    down = w.linear(active, f"{base}.{names.down}", f"{place}/mlp/down")
    return w.node("Add", [x, _scaled(w, down, base, names.scale2, place)], f"{place}/mlp")


def _scaled(w: TowerWriter, x: str, base: str, name: str | None, place: str) -> str:
    """Layer scale, where there is one."""
    if name is None:
        return x
    weight = w.tensor(f"{base}.{name}", w.source.get(f"{base}.{name}"))
    return w.node("Mul", [x, weight], f"{place}/{name}")


def _attention(w: TowerWriter, spec: VitSpec, base: str, x: str, place: str) -> str:
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
    mixed = w.attention(q, k, v, 1.0 / float(np.sqrt(width)), place)
    return w.linear(mixed, f"{base}.{names.out}", f"{place}/out")
