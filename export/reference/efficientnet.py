"""EfficientNet-Lite in plain float32 numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.nano.efficientnet import (
    PIXEL_MEAN,
    PIXEL_SCALE,
    Conv,
    EfficientNetLite,
    same_padding,
)
from edgevlm.tensors import Float32


def forward(net: EfficientNetLite, image_rgb: NDArray[np.uint8]) -> list[Float32]:
    """What every block gives, float32 ``(channels, height, width)``; the feature map is the last.

    Args:
        net: the network.
        image_rgb: uint8 ``(height, width, 3)``.
    """
    pixels = (image_rgb.astype(np.float32) - PIXEL_MEAN) / PIXEL_SCALE
    found = []
    x: Float32 = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    for block in net.blocks:
        start = x
        for conv in block.convs:
            x = _convolve(x, conv)
        if block.residual:
            x = x + start
        found.append(x)
    return found


def _convolve(x: Float32, conv: Conv) -> Float32:
    k, s = conv.kernel, conv.stride
    padded = np.pad(x, ((0, 0), same_padding(x.shape[1], k, s), same_padding(x.shape[2], k, s)))
    height, width = -(-x.shape[1] // s), -(-x.shape[2] // s)
    y = np.zeros((len(conv.weight), height, width), np.float32)
    for i in range(k):
        for j in range(k):
            shifted = padded[:, i : i + s * height : s, j : j + s * width : s]
            if conv.groups == 1:
                y += np.tensordot(conv.weight[:, :, i, j], shifted, axes=1)
            else:
                y += conv.weight[:, 0, i, j][:, None, None] * shifted
    y += conv.bias[:, None, None]
    return np.clip(y, 0, 6) if conv.relu6 else y
