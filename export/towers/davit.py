"""DaViT, the encoder of Florence-2: windows of patches and groups of channels attend in turn.

One stage::

    [norm] ── Conv ── [norm] ── blocks: spatial, channel, spatial, channel, ...
    block: x + depthwise(x) ── norm ── window | channel attention ── Add
           x + depthwise(x) ── norm ── MLP ── Add

Source: DaViT (Ding et al., 2022), sections 3.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.writer import Activation, TowerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class DavitStage:
    """One resolution.

    Args:
        width: channels, a multiple of heads and groups.
        depth: pairs of a spatial and a channel block.
        heads: of window attention.
        groups: of channel attention.
        stride: of the convolution before the blocks.
        padding: of it, in pixels.
        pre_norm: LayerNorm before that convolution; else behind it.
    """

    width: int
    depth: int
    heads: int
    groups: int
    stride: int
    padding: int
    pre_norm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DavitSpec:
    """Shape of the tower.

    Args:
        stages: in order.
        window: patches along a side of a window.
        height: of the input, in pixels.
        width: likewise.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        qkv_bias: query, key and value have biases.
        activation: of the MLP.
        eps: of every norm.
    """

    stages: tuple[DavitStage, ...]
    window: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    qkv_bias: bool = True
    activation: Activation = "gelu"
    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class Planes:
    """A feature map, ``(tiles, channels, height, width)``."""

    value: str
    channels: int
    height: int
    width: int


def write_davit(w: TowerWriter, spec: DavitSpec, image: str = "image") -> Planes:
    """Write the tower.

    Args:
        w: writer over the tower's weights.
        spec: its shape.
        image: input, uint8 ``(tiles, height, width, 3)``.

    Raises:
        CheckpointError: the weights have another shape than the configuration makes them.
    """
    normal = w.normalized(image, spec.mean, spec.std, "pixels")
    value = w.node("Transpose", [normal], "pixels", perm=[0, 3, 1, 2])
    x = Planes(value, 3, spec.height, spec.width)
    for n, stage in enumerate(spec.stages):
        x = _reduced(w, spec, stage, x, f"convs.{n}")
        for i in range(stage.depth):
            base = f"blocks.{n}.{i}"
            x = _block(w, spec, stage, x, f"{base}.spatial_block", "window_attn")
            x = _block(w, spec, stage, x, f"{base}.channel_block", "channel_attn")
    return x


def as_rows(w: TowerWriter, x: Planes, place: str) -> str:
    """``(tiles, height * width, channels)``, row by row."""
    shape = w.ints(0, x.channels, x.height * x.width)
    flat = w.node("Reshape", [x.value, shape], f"{place}/flat")
    return w.node("Transpose", [flat], f"{place}/rows", perm=[0, 2, 1])


def _as_planes(w: TowerWriter, rows: str, like: Planes, place: str) -> Planes:
    turned = w.node("Transpose", [rows], f"{place}/channels", perm=[0, 2, 1])
    shape = w.ints(0, like.channels, like.height, like.width)
    value = w.node("Reshape", [turned, shape], f"{place}/planes")
    return Planes(value, like.channels, like.height, like.width)


def _reduced(w: TowerWriter, spec: DavitSpec, stage: DavitStage, x: Planes, base: str) -> Planes:
    """The convolution before a stage's blocks."""
    if stage.pre_norm:
        x = _normed(w, spec, x, base)
    kernel = w.source.get(f"{base}.conv.weight")
    size = kernel.shape[-1]
    if kernel.shape != (stage.width, x.channels, size, size):
        raise CheckpointError(
            f"{base}.conv.weight has the shape {kernel.shape}; the configuration asks "
            f"{(stage.width, x.channels, size, size)}"
        )
    bias = w.tensor(f"{base}.conv.bias", w.source.get(f"{base}.conv.bias"))
    value = w.node(
        "Conv",
        [x.value, w.tensor(f"{base}.conv.weight", kernel), bias],
        base,
        strides=[stage.stride] * 2,
        pads=[stage.padding] * 4,
    )
    high, wide = (
        (side + 2 * stage.padding - size) // stage.stride + 1 for side in (x.height, x.width)
    )
    x = Planes(value, stage.width, high, wide)
    return x if stage.pre_norm else _normed(w, spec, x, base)


def _normed(w: TowerWriter, spec: DavitSpec, x: Planes, base: str) -> Planes:
    rows = as_rows(w, x, f"{base}/norm")
    return _as_planes(w, w.layer_norm(rows, f"{base}.norm", spec.eps, base), x, f"{base}/norm")


def _block(
    w: TowerWriter, spec: DavitSpec, stage: DavitStage, x: Planes, base: str, attention: str
) -> Planes:
    rows = as_rows(w, _near(w, x, f"{base}.conv1"), f"{base}/attn")
    normed = w.layer_norm(rows, f"{base}.norm1", spec.eps, f"{base}/norm1")
    name = f"{base}.{attention}"
    if attention == "window_attn":
        mixed = _window_attention(w, spec, stage, normed, x, name)
    else:
        mixed = _channel_attention(w, spec, stage, normed, x, name)
    x = _as_planes(w, w.node("Add", [rows, mixed], f"{base}/attn"), x, f"{base}/attn")
    rows = as_rows(w, _near(w, x, f"{base}.conv2"), f"{base}/mlp")
    normed = w.layer_norm(rows, f"{base}.norm2", spec.eps, f"{base}/norm2")
    up = w.linear(normed, f"{base}.ffn.fc1", f"{base}/mlp/up")
    down = w.linear(w.activation(up, spec.activation, f"{base}/mlp"), f"{base}.ffn.fc2",
                    f"{base}/mlp/down")  # fmt: skip
    return _as_planes(w, w.node("Add", [rows, down], f"{base}/mlp"), x, f"{base}/mlp")


def _near(w: TowerWriter, x: Planes, base: str) -> Planes:
    """What the neighbours add: a depthwise convolution in place of positions."""
    names = [
        w.tensor(f"{base}.{part}", w.source.get(f"{base}.{part}")) for part in ("weight", "bias")
    ]
    y = w.node("Conv", [x.value, *names], base, pads=[1] * 4, group=x.channels)
    return Planes(w.node("Add", [y, x.value], base), x.channels, x.height, x.width)


def _qkv(w: TowerWriter, spec: DavitSpec, stage: DavitStage, x: str, base: str) -> list[str]:
    qkv = w.linear(x, f"{base}.qkv", f"{base}/qkv", bias=spec.qkv_bias)
    split = [f"/{base}/Split/{part}" for part in "qkv"]
    w.node("Split", [qkv, w.ints(*[stage.width] * 3)], base, outputs=split, axis=-1)
    return split


def _window_attention(
    w: TowerWriter, spec: DavitSpec, stage: DavitStage, rows: str, like: Planes, base: str
) -> str:
    """Rows attend within windows; what is missing of the last ones are zeros that attend too."""
    side, width = spec.window, stage.width
    high, wide = -(-like.height // side), -(-like.width // side)
    grid = w.node("Reshape", [rows, w.ints(0, like.height, like.width, width)], f"{base}/grid")
    ends = (0, 0, 0, 0, 0, high * side - like.height, wide * side - like.width, 0)
    if any(ends):
        grid = w.node("Pad", [grid, w.ints(*ends)], f"{base}/pad")
    split = w.node("Reshape", [grid, w.ints(-1, high, side, wide, side, width)], f"{base}/split")
    near = w.node("Transpose", [split], f"{base}/windows", perm=[0, 1, 3, 2, 4, 5])
    windows = w.node("Reshape", [near, w.ints(-1, side * side, width)], f"{base}/windows")
    head = width // stage.heads
    q, k, v = (
        w.heads(part, stage.heads, head, f"{base}/{name}")
        for part, name in zip(_qkv(w, spec, stage, windows, base), "qkv", strict=True)
    )
    mixed = w.attention(q, k, v, 1.0 / float(np.sqrt(head)), base)
    out = w.linear(mixed, f"{base}.proj", f"{base}/out")
    split = w.node("Reshape", [out, w.ints(-1, high, wide, side, side, width)], f"{base}/merge")
    back = w.node("Transpose", [split], f"{base}/merge", perm=[0, 1, 3, 2, 4, 5])
    grid = w.node("Reshape", [back, w.ints(-1, high * side, wide * side, width)], f"{base}/whole")
    if any(ends):
        stops = w.ints(like.height, like.width)
        grid = w.node("Slice", [grid, w.ints(0, 0), stops, w.ints(1, 2)], f"{base}/whole")
    return w.node("Reshape", [grid, w.ints(-1, like.height * like.width, width)], f"{base}/rows")


def _channel_attention(
    w: TowerWriter, spec: DavitSpec, stage: DavitStage, rows: str, like: Planes, base: str
) -> str:
    """Channels attend to the channels of their group, over all patches."""
    group = stage.width // stage.groups
    q, k, v = (
        w.heads(part, stage.groups, group, f"{base}/{name}")
        for part, name in zip(_qkv(w, spec, stage, rows, base), "qkv", strict=True)
    )
    scale = 1.0 / float(np.sqrt(like.height * like.width))
    factor = w.graph.constant(f"scale.{scale!r}", np.array(scale, np.float32))
    scaled = w.node("Mul", [q, factor], f"{base}/queries")
    turned = w.node("Transpose", [scaled], f"{base}/queries", perm=[0, 1, 3, 2])
    scores = w.node("MatMul", [turned, k], f"{base}/scores")
    weights = w.node("Softmax", [scores], base, axis=-1)
    across = w.node("Transpose", [weights], f"{base}/across", perm=[0, 1, 3, 2])
    mixed = w.node("MatMul", [v, across], f"{base}/values")
    back = w.node("Transpose", [mixed], f"{base}/back", perm=[0, 2, 1, 3])
    flat = w.node("Reshape", [back, w.ints(0, 0, -1)], f"{base}/back")
    return w.linear(flat, f"{base}.proj", f"{base}/out")
