"""Patches made by a stack of convolutions in place of one: timm's ``vit_base_mci_224``.

Source: MobileCLIP (Vasu et al., 2024), section 4.1; Early Convolutions Help Transformers See Better
(Xiao et al., 2021), section 3.
"""

from __future__ import annotations

from edgevlm.export.towers.fastvit_fold import conv_bn
from edgevlm.export.towers.writer import TowerWriter

STEM = "patch_embed.backbone"


def write_conv_stem(
    w: TowerWriter, image: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> str:
    """Convolutions that do not overlap, folded BatchNorm and GELU behind all but the last.

    Args:
        w: writer over the tower's weights.
        image: input, uint8 ``(tiles, height, width, 3)``.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.

    Returns:
        name of the patches, float32 ``(tiles, patches, hidden_size)``.
    """
    normal = w.normalized(image, mean, std, "pixels")
    x, n = w.node("Transpose", [normal], "pixels", perm=[0, 3, 1, 2]), 0
    while w.source.has(f"{STEM}.{n}.conv.weight"):
        base, last = f"{STEM}.{n}", not w.source.has(f"{STEM}.{n + 1}.conv.weight")
        if last:
            kernel, bias = (w.source.get(f"{base}.conv.{part}") for part in ("weight", "bias"))
        else:
            kernel, bias = conv_bn(w.source, base)
        names = [w.tensor(f"{base}.weight", kernel), w.tensor(f"{base}.bias", bias)]
        x = w.node("Conv", [x, *names], base, strides=list(kernel.shape[2:]))
        if not last:
            x = w.activation(x, "gelu", base)
        n += 1
    flat = w.node("Reshape", [x, w.ints(0, 0, -1)], f"{STEM}/flat")
    return w.node("Transpose", [flat], f"{STEM}/rows", perm=[0, 2, 1])
