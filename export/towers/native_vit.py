"""Vision transformers at native resolution: Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

The grid differs from picture to picture, so what depends on it comes in from outside: the order in
which patches are taken, their rotary angles, windows, and the matrices that resample a position
table. One block::

    x ── norm1 ── qkv ── rotation ── attention (all, or per window) ── Add ── norm2 ── MLP ── Add
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.towers.positions import declare_resampling, resampled_positions
from edgevlm.export.towers.writer import Activation, TowerWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeVitSpec:
    """Shape of a vision transformer at native resolution.

    Args:
        hidden_size: width.
        heads: a divisor of it.
        layers: number of blocks.
        patch: pixels along a side of a patch.
        activation: of the MLP.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        rms: RMSNorm in place of LayerNorm.
        gated: the MLP is gate, up and down (Qwen2.5-VL).
        fc: names of the two linear layers of an ungated MLP.
        windowed: blocks whose attention stays within windows.
        window_tokens: patches of a full window.
        table_side: patches along a side of the position table; None without one.
        keep: blocks whose outputs are kept for deepstack.
        eps: of every norm.
    """

    hidden_size: int
    heads: int
    layers: int
    patch: int
    activation: Activation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rms: bool = False
    gated: bool = False
    fc: tuple[str, str] = ("mlp.fc1", "mlp.fc2")
    windowed: frozenset[int] = frozenset()
    window_tokens: int = 0
    table_side: int | None = None
    keep: tuple[int, ...] = ()
    eps: float = 1e-6


def write_native_vit(w: TowerWriter, spec: NativeVitSpec) -> tuple[str, list[str]]:
    """Declare the inputs and write the tower.

    Returns:
        name of the output, float32 ``(1, patches, hidden_size)`` in the given order, and of the
        outputs of the blocks in ``keep``.
    """
    _declare(w, spec)
    kernel = w.source.get("patch_embed.proj.weight")
    kernel = kernel.sum(axis=2)  # both frames of a still picture are the same
    bias = "patch_embed.proj.bias"
    offset = w.source.get(bias) if w.source.has(bias) else None
    batch = w.node("Unsqueeze", ["image", w.ints(0)], "patches/batch")
    x = w.patches(batch, kernel, offset, spec.mean, spec.std, "patches")
    if spec.table_side is not None:
        table = w.source.get("pos_embed.weight")
        x = w.node("Add", [x, resampled_positions(w, table, spec.table_side)], "positions")
    x = w.node("Gather", [x, "order"], "patches/ordered", axis=1)
    kept = []
    for i in range(spec.layers):
        x = _block(w, spec, i, x)
        if i in spec.keep:
            kept.append(x)
    return x, kept


def _declare(w: TowerWriter, spec: NativeVitSpec) -> None:
    g, half = w.graph, spec.hidden_size // spec.heads // 2
    g.input("image", "uint8", ("height", "width", 3), "RGB pixels")
    g.input("order", "int64", ("patches",), "of the row-major patches")
    for name in ("rope_cos", "rope_sin"):
        g.input(name, "float32", ("patches", half), "of every patch's row and column")
    if spec.windowed:
        g.input("windows", "int64", ("window_patches",), "patches of each window, filled with 0")
        shape = ("windows", 1, 1, spec.window_tokens)
        g.input("window_mask", "float32", shape, "0 where a window has a patch")
        g.input("unwindow", "int64", ("patches",), "where each patch is among the windows")
    if spec.table_side is not None:
        declare_resampling(w, spec.table_side)


def _norm(w: TowerWriter, spec: NativeVitSpec, x: str, name: str, place: str) -> str:
    if spec.rms:
        return w.rms_norm(x, name, spec.eps, place)
    return w.layer_norm(x, name, spec.eps, place)


def _block(w: TowerWriter, spec: NativeVitSpec, i: int, x: str) -> str:
    base = place = f"blocks.{i}"
    normed = _norm(w, spec, x, f"{base}.norm1", f"{place}/norm1")
    x = w.node("Add", [x, _attention(w, spec, i, normed)], f"{place}/attn")
    normed = _norm(w, spec, x, f"{base}.norm2", f"{place}/norm2")
    return w.node("Add", [x, _mlp(w, spec, base, normed)], f"{place}/mlp")


def _mlp(w: TowerWriter, spec: NativeVitSpec, base: str, x: str) -> str:
    place = f"{base}/mlp"
    if not spec.gated:
        up = w.linear(x, f"{base}.{spec.fc[0]}", f"{place}/up")
        active = w.activation(up, spec.activation, place)
        return w.linear(active, f"{base}.{spec.fc[1]}", f"{place}/down")
    gate = w.linear(x, f"{base}.mlp.gate_proj", f"{place}/gate")
    up = w.linear(x, f"{base}.mlp.up_proj", f"{place}/up")
    product = w.node("Mul", [w.activation(gate, spec.activation, place), up], f"{place}/product")
    return w.linear(product, f"{base}.mlp.down_proj", f"{place}/down")


def _attention(w: TowerWriter, spec: NativeVitSpec, i: int, x: str) -> str:
    base, place = f"blocks.{i}.attn", f"blocks.{i}/attn"
    width = spec.hidden_size // spec.heads
    qkv = w.linear(x, f"{base}.qkv", f"{place}/qkv")
    parts = [f"/{place}/Split/{p}" for p in "qkv"]
    w.node("Split", [qkv, w.ints(*[spec.hidden_size] * 3)], place, outputs=parts, axis=-1)
    q, k, v = (
        w.heads(part, spec.heads, width, f"{place}/{name}")
        for part, name in zip(parts, "qkv", strict=True)
    )
    q, k = _rotated(w, q, width, f"{place}/q"), _rotated(w, k, width, f"{place}/k")
    scale = 1.0 / float(np.sqrt(width))
    if i not in spec.windowed:
        mixed = w.attention(q, k, v, scale, place)
    else:
        q, k, v = (
            _into_windows(w, spec, part, f"{place}/{name}")
            for part, name in zip((q, k, v), "qkv", strict=True)
        )
        apart = w.attention(q, k, v, scale, place, mask="window_mask")
        flat = w.node("Reshape", [apart, w.ints(1, -1, spec.hidden_size)], f"{place}/windows")
        mixed = w.node("Gather", [flat, "unwindow"], f"{place}/windows", axis=1)
    return w.linear(mixed, f"{base}.proj", f"{place}/out")


def _into_windows(w: TowerWriter, spec: NativeVitSpec, x: str, place: str) -> str:
    """``(1, heads, patches, width)`` to ``(windows, heads, patches of a window, width)``."""
    width = spec.hidden_size // spec.heads
    picked = w.node("Gather", [x, "windows"], f"{place}/windows", axis=2)
    shape = w.ints(spec.heads, -1, spec.window_tokens, width)
    apart = w.node("Reshape", [picked, shape], f"{place}/windows")
    return w.node("Transpose", [apart], f"{place}/windows", perm=[1, 0, 2, 3])


def _rotated(w: TowerWriter, x: str, width: int, place: str) -> str:
    """Rotate half-split pairs of ``(1, heads, patches, width)``."""
    first, second = f"/{place}/Split/first", f"/{place}/Split/second"
    sizes = w.ints(width // 2, width // 2)
    w.node("Split", [x, sizes], f"{place}/halves", outputs=[first, second], axis=-1)
    pairs = [("first_cos", first, "rope_cos"), ("second_sin", second, "rope_sin"),
             ("second_cos", second, "rope_cos"), ("first_sin", first, "rope_sin")]  # fmt: skip
    a, b, c, d = (w.node("Mul", [part, table], f"{place}/{name}") for name, part, table in pairs)
    left = w.node("Sub", [a, b], f"{place}/rotary")
    right = w.node("Add", [c, d], f"{place}/rotary")
    return w.node("Concat", [left, right], f"{place}/rotary", axis=-1)
