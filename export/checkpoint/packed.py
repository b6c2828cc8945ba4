"""Matrices that AWQ or GPTQ stored in 4 bits, laid out anew without loss.

Both cut a matrix ``(in, out)`` into groups along its input and keep eight values in one int32::

    GPTQ   qweight (in / 8, out)   qzeros (groups, out / 8), less one   scales (groups, out)
    AWQ    qweight (in, out / 8)   qzeros (groups, out / 8)             scales (groups, out)

AWQ's eight values lie in the order 0, 2, 4, 6, 1, 3, 5, 7. A weight is ``scale * (q - zero)``.

Source: GPTQ (Frantar et al., 2022) and the format ``gptq`` of its checkpoints; AWQ (Lin et al.,
2023) and the version ``gemm`` of its checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import finite
from edgevlm.export.checkpoint.tensors import StoredTensors
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

UInt8 = NDArray[np.uint8]
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 256  # of ONNX Runtime's MatMulNBits
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)  # where the eight values lie
_PARTS = ("qweight", "qzeros", "scales", "g_idx")


class PackedTensors:
    """Tensors of a checkpoint, its 4-bit matrices under the names of plain ones.

    Args:
        base: the checkpoint's tensors.
        settings: ``quantization_config``.
        where: named in errors.

    Raises:
        CheckpointError: another method, number of bits or layout than the two above.
    """

    def __init__(self, base: StoredTensors, settings: Mapping[str, Any], where: str) -> None:
        self._base = base
        self._where = where
        found = _layout(settings, where)
        self._awq = found == "gemm"
        self._zero_offset = int(found == "gptq")
        ending = ".qweight"
        self._modules = {n.removesuffix(ending) for n in base.names if n.endswith(ending)}
        if not self._modules:
            raise CheckpointError(
                f"{where}: config.json says that weights are packed, and no tensor is a qweight: "
                "remove quantization_config if the weights are plain"
            )
        parts = {f"{m}.{part}" for m in self._modules for part in _PARTS}
        for name in sorted(parts & base.names):
            if len(base.shape(name)) != (1 if name.endswith("g_idx") else 2):
                raise CheckpointError(f"{where}: {name} has the shape {base.shape(name)}")
        self.names = frozenset(base.names - parts) | {f"{m}.weight" for m in self._modules}

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it; ``(out, in)`` of a packed matrix."""
        module = self._module(name)
        if module is None:
            return self._base.shape(name)
        rows, columns = self._base.shape(f"{module}.qweight")
        return (columns * 8, rows) if self._awq else (columns, rows * 8)

    def get(self, name: str) -> Float32:
        """One tensor as float32: ``scale * (q - zero)`` of a packed matrix."""
        blocks = self.blocks(name)
        return self._base.get(name) if blocks is None else finite(name, blocks.dequantize())

    def blocks(self, name: str) -> QuantBlocks | None:
        """A packed matrix in the layout of MatMulNBits, without loss; None for plain tensors.

        Raises:
            CheckpointError: parts that are missing or do not fit together, act-order, groups
                that are no multiple of 16, or zero points that 4 bits do not hold.
        """
        module = self._module(name)
        if module is None:
            return None
        out, width = self.shape(name)
        scales = self._base.get(self._part(module, "scales")).T
        words = self._base.integers(f"{module}.qweight")
        zero_words = self._base.integers(self._part(module, "qzeros"))
        groups = scales.shape[1]
        shapes = (scales.shape[0], zero_words.shape)
        if shapes != (out, (groups, math.ceil(out / 8))) or out % 8 or width % groups:
            raise CheckpointError(
                f"{self._where}: the parts of {module} do not fit together: qweight "
                f"{words.shape}, qzeros {zero_words.shape}, scales {scales.shape[::-1]}"
            )
        group = width // groups
        self._check_order(module, width, group)
        block = min(group & -group, LARGEST_BLOCK)  # the largest power of two that divides it
        if block < SMALLEST_BLOCK:
            raise CheckpointError(
                f"{self._where}: {module} has groups of {group} weights; only multiples of "
                f"{SMALLEST_BLOCK} become blocks"
            )
        if self._awq:
            values, zeros = _unpacked(words, _AWQ_PLACES).T, _unpacked(zero_words, _AWQ_PLACES)
        else:
            values, zeros = _unpacked(words.T), _unpacked(zero_words)
        if self._zero_offset and zeros.max() == 15:
            raise CheckpointError(
                f"{self._where}: zero points of {module} are stored as 15, which GPTQ's first "
                "format cannot tell from -1: convert the checkpoint to the format gptq_v2"
            )
        zeros = zeros.T + np.uint8(self._zero_offset)
        return QuantBlocks(
            bits=4,
            values=np.ascontiguousarray(values).reshape(out, width // block, block),
            scales=np.repeat(scales, group // block, axis=1),
            zeros=np.repeat(zeros, group // block, axis=1),
        )

    def _module(self, name: str) -> str | None:
        module = name.removesuffix(".weight")
        return module if name.endswith(".weight") and module in self._modules else None

    def _part(self, module: str, part: str) -> str:
        if f"{module}.{part}" not in self._base.names:
            raise CheckpointError(f"{self._where}: {module} has a qweight and lacks its {part}")
        return f"{module}.{part}"

    def _check_order(self, module: str, width: int, group: int) -> None:
        name = f"{module}.g_idx"
        if name not in self._base.names:
            return
        if not np.array_equal(self._base.integers(name), np.arange(width) // group):
            raise CheckpointError(
                f"{self._where}: {module} was quantised in the order of its activations "
                "(desc_act, act-order), which scatters its groups: use a checkpoint made with "
                "desc_act false, or the unquantised one"
            )


def _layout(settings: Mapping[str, Any], where: str) -> str:
    """``gemm``, ``gptq`` or ``gptq_v2``."""
    method = str(settings.get("quant_method")).lower()
    if method not in ("awq", "gptq"):
        raise CheckpointError(
            f"{where} is quantised with {method!r}, which is not read; awq and gptq in 4 bits "
            "are: export the unquantised checkpoint it was made from, with --precision"
        )
    known = ("gemm",) if method == "awq" else ("gptq", "gptq_v2")
    keys = ("version", "format") if method == "awq" else ("checkpoint_format", "format")
    found = next((str(settings[k]).lower() for k in keys if settings.get(k)), known[0])
    if settings.get("is_marlin_format"):
        found = "marlin"
    if settings.get("backend") == "llm-awq":
        found = "llm-awq"
    bits = settings.get("bits", settings.get("w_bit", 4))
    if bits != 4 or found not in known:
        raise CheckpointError(
            f"{where} is quantised with {method} in {bits} bits, layout {found!r}; 4 bits in the "
            f"layout {' or '.join(known)} are read: use such a checkpoint, or the unquantised one"
        )
    return found


def _unpacked(words: NDArray[np.int32], places: tuple[int, ...] = tuple(range(8))) -> UInt8:
    """Eight values a word, along the last axis."""
    shifts = np.array(places, np.uint32) * np.uint32(4)
    nibbles = (np.ascontiguousarray(words).view(np.uint32)[..., None] >> shifts) & np.uint32(15)
    values: UInt8 = nibbles.astype(np.uint8).reshape(*words.shape[:-1], -1)
    return values
