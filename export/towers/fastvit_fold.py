"""FastViT's training branches folded into one convolution each.

Checkpoints come in two forms: with all branches and their BatchNorms, or already folded
(``inference_mode``). Both are taken; forgetting to fold costs two to three times the latency.

Source: RepVGG (Ding et al., 2021), section 3.3; FastViT (Vasu et al., 2023), sections 3.2 and 3.3.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from edgevlm.export.decoder.weights import WeightSource
from edgevlm.tensors import Float32

BATCH_NORM_EPS = 1e-5
Folded: TypeAlias = tuple[Float32, Float32]  # kernel (out, in / groups, k, k), and bias (out,)


def conv_bn(source: WeightSource, base: str) -> Folded:
    """A convolution and the BatchNorm behind it."""
    return _scaled(source, f"{base}.bn", source.get(f"{base}.conv.weight"))


def mobile_one(source: WeightSource, base: str, size: int | None = None) -> Folded:
    """Convolutions of one size, a 1x1 and an identity, each behind a BatchNorm.

    Args:
        source: the weights.
        base: name of the block.
        size: of the kernel, where the block has an identity only.
    """
    if done := _folded(source, base):
        return done
    branches = []
    n = 0
    while source.has(f"{base}.conv_kxk.{n}.conv.weight"):
        branches.append(conv_bn(source, f"{base}.conv_kxk.{n}"))
        n += 1
    if branches:
        size = branches[0][0].shape[-1]
    if source.has(f"{base}.conv_scale.conv.weight"):
        kernel, bias = conv_bn(source, f"{base}.conv_scale")
        branches.append((_padded(kernel, size or kernel.shape[-1]), bias))
    if source.has(f"{base}.identity.weight"):
        width = branches[0][0].shape[1] if branches else 1
        channels = source.shape(f"{base}.identity.weight")[0]
        identity = _identity(channels, width, size or 1)
        branches.append(_scaled(source, f"{base}.identity", identity))
    return _sum(branches)


def large_kernel(source: WeightSource, base: str) -> Folded:
    """A large and a small depthwise convolution."""
    if done := _folded(source, base):
        return done
    kernel, bias = conv_bn(source, f"{base}.large_conv")
    branches = [(kernel, bias)]
    if source.has(f"{base}.small_conv.conv.weight"):
        small, offset = conv_bn(source, f"{base}.small_conv")
        branches.append((_padded(small, kernel.shape[-1]), offset))
    return _sum(branches)


def rep_mixer(source: WeightSource, base: str) -> Folded:
    """``x + scale * (mixer(x) - norm(x))``."""
    if done := _folded(source, base):
        return done
    kernel, bias = mobile_one(source, f"{base}.mixer")
    other, offset = mobile_one(source, f"{base}.norm", kernel.shape[-1])
    scale = np.ones(len(bias), np.float32)
    if source.has(f"{base}.layer_scale.gamma"):
        scale = source.get(f"{base}.layer_scale.gamma").reshape(-1)
    mixed = scale[:, None, None, None] * (kernel - other)
    return _identity(len(bias), 1, kernel.shape[-1]) + mixed, scale * (bias - offset)


def positional(source: WeightSource, base: str) -> Folded:
    """A depthwise convolution added to its input: conditional position encoding."""
    if done := _folded(source, base):
        return done
    kernel = source.get(f"{base}.pos_enc.weight")
    identity = _identity(len(kernel), 1, kernel.shape[-1])
    return kernel + identity, source.get(f"{base}.pos_enc.bias")


def _folded(source: WeightSource, base: str) -> Folded | None:
    if not source.has(f"{base}.reparam_conv.weight"):
        return None
    return source.get(f"{base}.reparam_conv.weight"), source.get(f"{base}.reparam_conv.bias")


def _scaled(source: WeightSource, norm: str, kernel: Float32) -> Folded:
    variance = source.get(f"{norm}.running_var").astype(np.float64)
    factor = source.get(f"{norm}.weight") / np.sqrt(variance + BATCH_NORM_EPS)
    bias = source.get(f"{norm}.bias") - source.get(f"{norm}.running_mean") * factor
    folded = kernel * factor[:, None, None, None]
    return folded.astype(np.float32), bias.astype(np.float32)


def _padded(kernel: Float32, size: int) -> Float32:
    edge = (size - kernel.shape[-1]) // 2
    return np.pad(kernel, ((0, 0), (0, 0), (edge, edge), (edge, edge)))


def _identity(channels: int, width: int, size: int) -> Float32:
    kernel = np.zeros((channels, width, size, size), np.float32)
    kernel[np.arange(channels), np.arange(channels) % width, size // 2, size // 2] = 1
    return kernel


def _sum(branches: list[Folded]) -> Folded:
    kernels, biases = zip(*branches, strict=True)
    return np.sum(kernels, axis=0, dtype=np.float32), np.sum(biases, axis=0, dtype=np.float32)
