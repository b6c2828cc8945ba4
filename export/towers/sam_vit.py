"""SAM's image encoder: a vision transformer that mostly attends within windows, and its neck.

::

    patches ── positions ── blocks ── 1x1 conv ── norm ── 3x3 conv ── norm
    block: norm1 ── [into windows] ── attention ── [back] ── Add ── norm2 ── MLP ── Add

Every size is known when the graph is written: the windows' padding is a constant.

Source: Segment Anything (Kirillov et al., 2023), appendix A; ViTDet (Li et al., 2022), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.towers.grid_attention import GridAttention, grid_attention
from edgevlm.export.towers.writer import Activation, TowerWriter

NECK_EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class SamVitSpec:
    """Shape of the encoder.

    Args:
        hidden_size: width.
        heads: a divisor of it.
        layers: how many blocks.
        eps: of the blocks' norms.
        activation: of the MLP.
        image_size: height and width of the input.
        patch_size: a divisor of it.
        window: patches along a side of a window; 0 where every block attends to everything.
        global_layers: blocks that attend to everything.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        positions: the encoder has a table of absolute positions.
        relative: attention adds decomposed relative positions.
        qkv_bias: query, key and value have biases.
    """

    hidden_size: int
    heads: int
    layers: int
    eps: float
    activation: Activation
    image_size: int
    patch_size: int
    window: int
    global_layers: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    positions: bool = True
    relative: bool = True
    qkv_bias: bool = True

    @property
    def side(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def attention(self) -> GridAttention:
        """Shape of every block's attention."""
        return GridAttention(
            hidden_size=self.hidden_size,
            heads=self.heads,
            relative=self.relative,
            qkv_bias=self.qkv_bias,
        )


def write_sam_vit(w: TowerWriter, spec: SamVitSpec, image: str, extent: str) -> str:
    """Write the blocks.

    Args:
        w: writer over the encoder's weights.
        spec: its shape.
        image: input, uint8 ``(image_size, image_size, 3)``, the picture in the upper left corner.
        extent: input, int64 ``(2,)``: height and width of the picture; what is outside becomes
            zero behind the normalisation.

    Returns:
        name of the output, float32 ``(1, side, side, hidden_size)``.
    """
    _check(w, spec)
    x = _patches(w, spec, image, extent)
    if spec.positions:
        x = w.node("Add", [x, w.tensor("pos_embed", w.source.get("pos_embed"))], "positions")
    for i in range(spec.layers):
        x = _block(w, spec, i, x)
    return x


def write_neck(w: TowerWriter, x: str, channels: int) -> str:
    """From the blocks to what the mask decoder takes.

    Args:
        w: writer over the encoder's weights.
        x: float32 ``(1, side, side, hidden_size)``.
        channels: of the output.

    Returns:
        name of the output, float32 ``(1, channels, side, side)``.
    """
    first = w.source.get("neck.conv1.weight").reshape(channels, -1)
    x = w.node("MatMul", [x, w.tensor("neck.conv1.weight", first.T)], "neck/conv1")
    x = w.layer_norm(x, "neck.layer_norm1", NECK_EPS, "neck/norm1")
    x = w.node("Transpose", [x], "neck/planes", perm=[0, 3, 1, 2])
    second = w.tensor("neck.conv2.weight", w.source.get("neck.conv2.weight"))
    x = w.node("Conv", [x, second], "neck/conv2", pads=[1, 1, 1, 1])
    x = w.node("Transpose", [x], "neck/rows", perm=[0, 2, 3, 1])
    x = w.layer_norm(x, "neck.layer_norm2", NECK_EPS, "neck/norm2")
    return w.node("Transpose", [x], "neck/out", perm=[0, 3, 1, 2])


def _check(w: TowerWriter, spec: SamVitSpec) -> None:
    """Hold what the configuration says against the weights.

    Raises:
        CheckpointError: they disagree.
    """
    side, width = spec.side, spec.hidden_size // spec.heads
    patch = (spec.hidden_size, 3, spec.patch_size, spec.patch_size)
    wanted: dict[str, tuple[int, ...]] = {"patch_embed.projection.weight": patch}
    if spec.positions:
        wanted["pos_embed"] = (1, side, side, spec.hidden_size)
    for i in range(spec.layers if spec.relative else 0):
        reach = side if _window(spec, i) == 0 else spec.window
        wanted[f"layers.{i}.attn.rel_pos_h"] = wanted[f"layers.{i}.attn.rel_pos_w"] = (
            2 * reach - 1, width,
        )  # fmt: skip
    for name, shape in wanted.items():
        if (found := w.source.shape(name)) != shape:
            raise CheckpointError(
                f"{name} of the image encoder has the shape {found}; the configuration asks {shape}"
            )
    if spec.hidden_size % spec.heads:
        raise CheckpointError(
            f"the image encoder has {spec.heads} heads, no divisor of its width {spec.hidden_size}"
        )


def _window(spec: SamVitSpec, layer: int) -> int:
    """Side of a block's windows; 0 where it attends to everything."""
    return 0 if layer in spec.global_layers else spec.window


def _patches(w: TowerWriter, spec: SamVitSpec, image: str, extent: str) -> str:
    """Patch embeddings of the picture, ``(1, side, side, hidden_size)``; zeros around it."""
    normal = w.normalized(image, spec.mean, spec.std, "pixels")
    places = w.graph.constant("places", np.arange(spec.image_size))
    height, width = (w.node("Gather", [extent, w.ints(n)], f"extent/{n}") for n in (0, 1))
    rows = w.node("Less", [places, height], "extent/rows")
    columns = w.node("Less", [places, width], "extent/columns")
    inside = w.node("And", [w.node("Unsqueeze", [rows, w.ints(1)], "extent"), columns], "extent")
    inside = w.node("Unsqueeze", [inside, w.ints(2)], "inside")
    zero = w.graph.constant("zero", np.array(0, np.float32))
    x = w.node("Where", [inside, normal, zero], "inside")
    x = w.node("Transpose", [x], "pixels/planes", perm=[2, 0, 1])
    x = w.node("Unsqueeze", [x, w.ints(0)], "pixels/planes")
    names = [f"patch_embed.projection.{part}" for part in ("weight", "bias")]
    parts = [w.tensor(name, w.source.get(name)) for name in names]
    x = w.node("Conv", [x, *parts], "patches", strides=[spec.patch_size] * 2)
    return w.node("Transpose", [x], "patches/rows", perm=[0, 2, 3, 1])


def _block(w: TowerWriter, spec: SamVitSpec, i: int, x: str) -> str:
    base, place, window = f"layers.{i}", f"blocks.{i}", _window(spec, i)
    y = w.layer_norm(x, f"{base}.layer_norm1", spec.eps, f"{place}/norm1")
    if window:
        y = _into_windows(w, spec, y, place)
    y = grid_attention(w, spec.attention, f"{base}.attn", y, window or spec.side, f"{place}/attn")
    if window:
        y = _out_of_windows(w, spec, y, place)
    x = w.node("Add", [x, y], f"{place}/attn")
    y = w.layer_norm(x, f"{base}.layer_norm2", spec.eps, f"{place}/norm2")
    y = w.linear(y, f"{base}.mlp.lin1", f"{place}/mlp/up")
    y = w.linear(w.activation(y, spec.activation, f"{place}/mlp"), f"{base}.mlp.lin2",
                 f"{place}/mlp/down")  # fmt: skip
    return w.node("Add", [x, y], f"{place}/mlp")


def _into_windows(w: TowerWriter, spec: SamVitSpec, x: str, place: str) -> str:
    """``(1, side, side, width)`` to ``(windows, window, window, width)``, padded with zeros."""
    edge, count = -spec.side % spec.window, -(-spec.side // spec.window)
    if edge:
        x = w.node("Pad", [x, w.ints(0, 0, 0, 0, 0, edge, edge, 0)], f"{place}/windows")
    split = w.ints(count, spec.window, count, spec.window, spec.hidden_size)
    x = w.node("Reshape", [x, split], f"{place}/windows/split")
    x = w.node("Transpose", [x], f"{place}/windows", perm=[0, 2, 1, 3, 4])
    shape = w.ints(count * count, spec.window, spec.window, spec.hidden_size)
    return w.node("Reshape", [x, shape], f"{place}/windows")


def _out_of_windows(w: TowerWriter, spec: SamVitSpec, x: str, place: str) -> str:
    """The way back, without the padding."""
    count = -(-spec.side // spec.window)
    split = w.ints(count, count, spec.window, spec.window, spec.hidden_size)
    x = w.node("Reshape", [x, split], f"{place}/grid/split")
    x = w.node("Transpose", [x], f"{place}/grid", perm=[0, 2, 1, 3, 4])
    full = w.ints(1, count * spec.window, count * spec.window, spec.hidden_size)
    x = w.node("Reshape", [x, full], f"{place}/grid")
    if spec.side % spec.window == 0:
        return x
    return w.node("Slice", [x, w.ints(0, 0), w.ints(spec.side, spec.side), w.ints(1, 2)],
                  f"{place}/grid")  # fmt: skip
