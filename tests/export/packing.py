"""Random 4-bit matrices, packed the way AutoGPTQ and AutoAWQ pack theirs: word by word."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tests.export.tiny import Checkpoint, Float32

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Rounded:
    """A matrix ``(in, out)`` as integers, with scales and zero points ``(groups, out)``."""

    values: NDArray[np.int64]
    scales: NDArray[np.float16]
    zeros: NDArray[np.int64]

    @property
    def weight(self) -> Float32:
        """float32 ``(out, in)``."""
        group = len(self.values) // len(self.scales)
        zeros, scales = (np.repeat(a, group, axis=0) for a in (self.zeros, self.scales))
        return np.ascontiguousarray(((self.values - zeros) * scales.astype(np.float32)).T)


def rounded(out: int, width: int, group: int, seed: int, *, symmetric: bool = False) -> Rounded:
    """Drawn, not rounded: every zero point that the formats hold occurs."""
    random = np.random.default_rng(seed)
    groups = 1 if group == -1 else width // group
    zeros = random.integers(1, 16, (groups, out))
    return Rounded(
        values=random.integers(0, 16, (width, out)),
        scales=random.uniform(0.02, 0.05, (groups, out)).astype(np.float16),
        zeros=np.full_like(zeros, 8) if symmetric else zeros,
    )


def words(rows: list[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Eight rows into one of int32, the first in the lowest bits."""
    made = np.zeros(rows[0].shape, np.uint32)
    for n, row in enumerate(rows):
        made |= row.astype(np.uint32) << np.uint32(4 * n)
    return made.view(np.int32)


def columns(matrix: NDArray[np.int64], order: tuple[int, ...]) -> NDArray[np.int32]:
    """Eight columns into one."""
    count = matrix.shape[1] // 8
    made = [words([matrix[:, 8 * n + place] for place in order]) for n in range(count)]
    return np.stack(made, axis=1)


def gptq(r: Rounded, less: int = 1) -> dict[str, np.ndarray]:
    """The first format stores zero points less one."""
    width = len(r.values)
    group = width // len(r.scales)
    rows = [words(list(r.values[n : n + 8])) for n in range(0, width, 8)]
    return {
        "qweight": np.stack(rows),
        "qzeros": columns(r.zeros - less, tuple(range(8))),
        "scales": r.scales,
        "g_idx": (np.arange(width) // group).astype(np.int32),
    }


def awq(r: Rounded) -> dict[str, np.ndarray]:
    """The version ``gemm``."""
    return {
        "qweight": columns(r.values, AWQ_ORDER),
        "qzeros": columns(r.zeros, AWQ_ORDER),
        "scales": r.scales,
    }


def settings(method: str, group: int, **more: Any) -> dict[str, Any]:
    """``quantization_config`` as the two libraries write it."""
    own = (
        {"version": "gemm", "zero_point": True}
        if method == "awq"
        else {"desc_act": False, "sym": False, "checkpoint_format": method}
    )
    return {"quant_method": method[:4], "bits": 4, "group_size": group, **own, **more}


def pack(
    made: Checkpoint, method: str, group: int, *, symmetric: bool = False, plain: str = "none"
) -> dict[str, Rounded]:
    """Replace the layers' matrices of a checkpoint by packed ones, and its model's by the same.

    Args:
        made: the checkpoint; its model may be None.
        method: ``gptq``, ``gptq_v2`` or ``awq``.
        group: inputs that share a scale; -1 is all of them.
        symmetric: zero points of 8.
        plain: matrices whose name has this in it stay as they are.

    Returns:
        what was packed, by module.
    """
    path = made.folder / "model.safetensors"
    tensors = load_file(path)
    packed: dict[str, Rounded] = {}
    for n, name in enumerate(sorted(tensors)):
        module = name.removesuffix(".weight")
        if ".layers." not in name or tensors[name].ndim != 2 or plain in name:
            continue
        found = rounded(*tensors.pop(name).shape, group, n, symmetric=symmetric)
        parts = awq(found) if method == "awq" else gptq(found, int(method == "gptq"))
        tensors |= {f"{module}.{part}": np.ascontiguousarray(v) for part, v in parts.items()}
        packed[module] = found
    save_file(tensors, path, {"format": "pt"})
    made.change_config(quantization_config=settings(method, group))
    if made.model is None:
        return packed
    state = {f"{m}.weight": torch.from_numpy(r.weight) for m, r in packed.items()}
    _, odd = made.model.load_state_dict(state, strict=False)
    assert not odd
    return packed


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Replace tensors whose names end so (dots as ``__``); None removes them."""
    path = folder / "model.safetensors"
    kept = load_file(path)
    for ending, value in tensors.items():
        for name in [n for n in kept if n.endswith(ending.replace("__", "."))]:
            del kept[name]
            if value is not None:
                kept[name] = value
    save_file(kept, path, {"format": "pt"})
