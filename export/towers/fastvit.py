"""FastViT, the encoder of FastVLM and MobileCLIP, from timm's weight names.

The shape is read off the weights: how many stages and blocks there are, which of them attend, and
whether branches are folded already::

    stem (3 MobileOne) ── stages: [downsample] ── [positions] ── blocks ── final MobileOne + SE
    block: RepMixer | attention, then a convolutional MLP, both scaled and added
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.towers.fastvit_fold import (
    Folded,
    conv_bn,
    large_kernel,
    mobile_one,
    positional,
    rep_mixer,
)
from edgevlm.export.towers.writer import TowerWriter

HEAD_DIM = 32
STEM_STRIDES = (2, 2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastVitSpec:
    """What the weights do not say.

    Args:
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        large_kernel_act: GELU behind the large convolutions of downsampling (the mci models).
        norm_eps: of the LayerNorms before attention, where they are no BatchNorms.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    large_kernel_act: bool = True
    norm_eps: float = 1e-5


def write_fastvit(w: TowerWriter, spec: FastVitSpec, image: str = "image") -> str:
    """Write the tower.

    Args:
        w: writer over the tower's weights.
        spec: what they do not say.
        image: input, uint8 ``(tiles, height, width, 3)``.

    Returns:
        name of the output, float32 ``(tiles, patches, channels)``, the final feature map row by
        row.
    """
    x = _pixels(w, spec, image)
    for n, stride in enumerate(STEM_STRIDES):
        x = _conv_act(w, x, mobile_one(w.source, f"stem.{n}"), stride, f"stem.{n}")
    stage = 0
    while w.source.has(f"stages.{stage}.blocks.0.mlp.fc1.weight"):
        x = _stage(w, spec, stage, x)
        stage += 1
    kernel, bias = mobile_one(w.source, "final_conv")
    x = _conv(w, x, (kernel, bias), 1, "final_conv")
    x = _squeeze_excite(w, x, "final_conv.se")
    x = w.activation(x, "gelu", "final_conv")
    return _rows(w, x, "final_conv")


def _pixels(w: TowerWriter, spec: FastVitSpec, image: str) -> str:
    normal = w.normalized(image, spec.mean, spec.std, "pixels")
    return w.node("Transpose", [normal], "pixels", perm=[0, 3, 1, 2])


def _conv(w: TowerWriter, x: str, folded: Folded, stride: int, place: str) -> str:
    """A convolution that keeps the size, or halves it; its groups follow from the kernel."""
    kernel, bias = folded
    names = [w.tensor(f"{place}.weight", kernel), w.tensor(f"{place}.bias", bias)]
    edge = kernel.shape[-1] // 2
    # Every convolution with narrow kernels here is depthwise, but for the first of the stem.
    depthwise = kernel.shape[1] == 1
    groups = _groups(w, place, kernel.shape[0]) if depthwise else 1
    return w.node("Conv", [x, *names], place, strides=[stride] * 2, pads=[edge] * 4, group=groups)


def _groups(w: TowerWriter, place: str, out: int) -> int:
    """Groups of a depthwise convolution, which may give two outputs a channel."""
    if ".downsample.proj.0" in place:
        stage = int(place.split(".")[1])
        before = f"stages.{stage - 1}.blocks.0.mlp.fc2.bias"
        return w.source.shape(before)[0]
    if place == "final_conv":
        last = max(s for s in range(8) if w.source.has(f"stages.{s}.blocks.0.mlp.fc2.bias"))
        return w.source.shape(f"stages.{last}.blocks.0.mlp.fc2.bias")[0]
    return out


def _conv_act(w: TowerWriter, x: str, folded: Folded, stride: int, place: str) -> str:
    return w.activation(_conv(w, x, folded, stride, place), "gelu", place)


def _stage(w: TowerWriter, spec: FastVitSpec, stage: int, x: str) -> str:
    base, source = f"stages.{stage}", w.source
    first = f"{base}.downsample.proj.0"
    if any(source.has(f"{first}.{n}.weight") for n in ("reparam_conv", "large_conv.conv")):
        x = _conv(w, x, large_kernel(source, first), 2, first)
        if source.has(f"{first}.se.fc1.weight"):
            x = _squeeze_excite(w, x, f"{first}.se")
        if spec.large_kernel_act:
            x = w.activation(x, "gelu", first)
        second = f"{base}.downsample.proj.1"
        x = _conv_act(w, x, mobile_one(source, second), 1, second)
    positions = f"{base}.pos_emb"
    if any(source.has(f"{positions}.{n}.weight") for n in ("reparam_conv", "pos_enc")):
        x = _conv(w, x, positional(source, positions), 1, positions)
    n = 0
    while source.has(f"{base}.blocks.{n}.mlp.fc1.weight"):
        x = _block(w, spec, f"{base}.blocks.{n}", x)
        n += 1
    return x


def _block(w: TowerWriter, spec: FastVitSpec, base: str, x: str) -> str:
    if w.source.has(f"{base}.token_mixer.qkv.weight"):
        mixed = _attention(w, base, _norm(w, spec, x, f"{base}.norm"))
        x = w.node("Add", [x, _scaled(w, mixed, f"{base}.layer_scale_1")], f"{base}.mixed")
        scale = f"{base}.layer_scale_2"
    else:
        mixer = f"{base}.token_mixer"
        x = _conv(w, x, rep_mixer(w.source, mixer), 1, mixer)
        scale = f"{base}.layer_scale"
    return w.node("Add", [x, _scaled(w, _mlp(w, x, f"{base}.mlp"), scale)], f"{base}.out")


def _scaled(w: TowerWriter, x: str, name: str) -> str:
    if not w.source.has(f"{name}.gamma"):
        return x
    gamma = w.source.get(f"{name}.gamma").reshape(1, -1, 1, 1)
    return w.node("Mul", [x, w.tensor(name, gamma)], name)


def _mlp(w: TowerWriter, x: str, base: str) -> str:
    x = _conv(w, x, conv_bn(w.source, f"{base}.conv"), 1, f"{base}.conv")
    x = _conv_act(w, x, _plain(w, f"{base}.fc1"), 1, f"{base}.fc1")
    return _conv(w, x, _plain(w, f"{base}.fc2"), 1, f"{base}.fc2")


def _plain(w: TowerWriter, name: str) -> Folded:
    return w.source.get(f"{name}.weight"), w.source.get(f"{name}.bias")


def _norm(w: TowerWriter, spec: FastVitSpec, x: str, name: str) -> str:
    """BatchNorm, or LayerNorm over the channels, as a real LayerNormalization node."""
    source = w.source
    if source.has(f"{name}.running_mean"):
        parts = ("weight", "bias", "running_mean", "running_var")
        names = [w.tensor(f"{name}.{part}", source.get(f"{name}.{part}")) for part in parts]
        return w.node("BatchNormalization", [x, *names], name, epsilon=1e-5)
    last = w.node("Transpose", [x], f"{name}.last", perm=[0, 2, 3, 1])
    normed = w.layer_norm(last, name, spec.norm_eps, name)
    return w.node("Transpose", [normed], f"{name}.first", perm=[0, 3, 1, 2])


def _attention(w: TowerWriter, base: str, x: str) -> str:
    place = f"{base}.token_mixer"
    channels = w.source.shape(f"{place}.proj.weight")[0]
    rows = _rows(w, x, place)
    qkv = w.linear(rows, f"{place}.qkv", f"{place}.qkv", bias=w.source.has(f"{place}.qkv.bias"))
    split = [f"/{place}/Split/{p}" for p in "qkv"]
    w.node("Split", [qkv, w.ints(*[channels] * 3)], place, outputs=split, axis=-1)
    q, k, v = (
        w.heads(part, channels // HEAD_DIM, HEAD_DIM, f"{place}.{name}")
        for part, name in zip(split, "qkv", strict=True)
    )
    mixed = w.attention(q, k, v, 1.0 / float(np.sqrt(HEAD_DIM)), place)
    out = w.linear(mixed, f"{place}.proj", f"{place}.proj")
    turned = w.node("Transpose", [out], f"{place}.turned", perm=[0, 2, 1])
    shape = w.node("Shape", [x], f"{place}.shape")
    return w.node("Reshape", [turned, shape], f"{place}.map")


def _rows(w: TowerWriter, x: str, place: str) -> str:
    """``(tiles, channels, height, width)`` to ``(tiles, height * width, channels)``."""
    flat = w.node("Reshape", [x, w.ints(0, 0, -1)], f"{place}.flat")
    return w.node("Transpose", [flat], f"{place}.rows", perm=[0, 2, 1])


def _squeeze_excite(w: TowerWriter, x: str, base: str) -> str:
    """Channels weighted by what their means say of each other."""
    mean = w.node("ReduceMean", [x, w.ints(2, 3)], f"{base}.mean", keepdims=1)
    small = _conv(w, mean, _plain(w, f"{base}.fc1"), 1, f"{base}.fc1")
    wide = _conv(w, w.activation(small, "relu", base), _plain(w, f"{base}.fc2"), 1, f"{base}.fc2")
    return w.node("Mul", [x, w.node("Sigmoid", [wide], base)], base)
