"""EfficientNet-Lite: its plan, its folded weights, and their lowering to ONNX.

Source: EfficientNet (Tan and Le, 2019), table 1, in the "lite" variant of its reference code:
ReLU6 throughout, no squeeze-and-excitation, stem and head not scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.graph import GraphBuilder
from edgevlm.tensors import Array, Float32

BATCH_NORM_EPS = 1e-3
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # input is (pixel - mean) / scale
HEAD_CHANNELS = 1280
STRIDE = 32
#           repeats, kernel, stride, expand, out
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv:
    """One convolution with its batch norm folded in.

    Args:
        name: its place in the network.
        weight: float32 ``(out, in / groups, kernel, kernel)``.
        bias: float32 ``(out,)``.
        stride: of both axes.
        groups: 1, or ``out`` for a depthwise convolution.
        relu6: clip to [0, 6] behind it.
    """

    name: str
    weight: Float32
    bias: Float32
    stride: int
    groups: int
    relu6: bool

    @property
    def kernel(self) -> int:
        """Width of the square kernel."""
        return int(self.weight.shape[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Convolutions in order; ``residual`` adds the block's input to its output."""

    convs: tuple[Conv, ...]
    residual: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EfficientNetLite:
    """The network: blocks from stem to head, then the classifier.

    Args:
        blocks: in order.
        classifier: float32 ``(classes, HEAD_CHANNELS)``.
        classifier_bias: float32 ``(classes,)``.
    """

    blocks: tuple[Block, ...]
    classifier: Float32
    classifier_bias: Float32


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after, for one axis of ``size`` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def from_state_dict(state: Mapping[str, Array]) -> EfficientNetLite:
    """Fold batch norms and name the parts.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """

    def take(name: str) -> Float32:
        if name not in state:
            raise CheckpointError(f"the EfficientNet weights lack {name}")
        return np.asarray(state[name], np.float32)

    def conv(name: str, norm: str, place: str, *, stride: int = 1, relu6: bool = True) -> Conv:
        weight = take(f"{name}.weight")
        if weight.ndim != 4 or take(f"{norm}.weight").shape != weight.shape[:1]:
            raise CheckpointError(f"{name} has the shape {weight.shape}, which {norm} does not fit")
        gain = take(f"{norm}.weight") / np.sqrt(take(f"{norm}.running_var") + BATCH_NORM_EPS)
        depthwise = weight.shape[1] == 1 and weight.shape[0] > 1
        return Conv(
            name=place,
            weight=(weight * gain[:, None, None, None]).astype(np.float32),
            bias=(take(f"{norm}.bias") - take(f"{norm}.running_mean") * gain).astype(np.float32),
            stride=stride,
            groups=len(weight) if depthwise else 1,
            relu6=relu6,
        )

    def blocks() -> Iterator[Block]:
        stem = conv("_conv_stem", "_bn0", "stem", stride=2)
        yield Block(convs=(stem,), residual=False)
        index, channels = 0, 32
        for repeats, kernel, stride, expand, out in _STAGES:
            for n in range(repeats):
                step = stride if n == 0 else 1
                at, place = f"_blocks.{index}", f"blocks.{index}"
                parts = []
                if expand != 1:
                    parts.append(conv(f"{at}._expand_conv", f"{at}._bn0", f"{place}.expand"))
                parts.append(
                    conv(f"{at}._depthwise_conv", f"{at}._bn1", f"{place}.depthwise", stride=step)
                )
                parts.append(
                    conv(f"{at}._project_conv", f"{at}._bn2", f"{place}.project", relu6=False)
                )
                if parts[-2].kernel != kernel or len(parts[-1].weight) != out:
                    raise CheckpointError(f"{at} is not a block of EfficientNet-Lite0")
                yield Block(convs=tuple(parts), residual=step == 1 and channels == out)
                channels, index = out, index + 1
        yield Block(convs=(conv("_conv_head", "_bn1", "head"),), residual=False)

    return EfficientNetLite(
        blocks=tuple(blocks()),
        classifier=take("_fc.weight"),
        classifier_bias=take("_fc.bias"),
    )


def lower(graph: GraphBuilder, net: EfficientNetLite, image: str, size: int) -> list[str]:
    """Write the trunk, from uint8 pixels to the feature map.

    Args:
        graph: being built.
        net: the network.
        image: name of the input, uint8 RGB ``(size, size, 3)``.
        size: of the square input, a multiple of ``STRIDE``.

    Returns:
        what every block gives, float32 ``(1, channels, height, width)``; the last is the feature
        map, ``(1, HEAD_CHANNELS, size / STRIDE, size / STRIDE)``.
    """
    found = []
    x = graph.node("Cast", [image], "pixels", to=1)
    mean = graph.constant("pixels.mean", np.float32(PIXEL_MEAN))
    scale = graph.constant("pixels.scale", np.float32(1 / PIXEL_SCALE))
    x = graph.node("Mul", [graph.node("Sub", [x, mean], "pixels"), scale], "pixels")
    x = graph.node("Transpose", [x], "pixels", perm=[2, 0, 1])
    axis = graph.constant("pixels.batch_axis", np.array([0], np.int64))
    x = graph.node("Unsqueeze", [x, axis], "pixels")
    low = graph.constant("relu6.low", np.float32(0))
    high = graph.constant("relu6.high", np.float32(6))
    for block in net.blocks:
        start = x
        for conv in block.convs:
            before, after = same_padding(size, conv.kernel, conv.stride)
            graph.weight(f"{conv.name}.weight", conv.weight)
            graph.weight(f"{conv.name}.bias", conv.bias)
            place = conv.name.replace(".", "/")
            x = graph.node(
                "Conv",
                [x, f"{conv.name}.weight", f"{conv.name}.bias"],
                place,
                kernel_shape=[conv.kernel] * 2,
                strides=[conv.stride] * 2,
                pads=[before, before, after, after],
                group=conv.groups,
            )
            size = -(-size // conv.stride)
            if conv.relu6:
                x = graph.node("Clip", [x, low, high], place)
        if block.residual:
            x = graph.node("Add", [x, start], place)
        found.append(x)
    return found
