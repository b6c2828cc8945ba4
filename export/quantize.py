"""Weight-only block quantisation in the layout of ONNX Runtime's MatMulNBits.

A matrix ``(out, in)`` is cut along its input axis into blocks of ``block_size``; a value is
``scale * (q - zero)`` with unsigned ``q`` of ``bits`` bits, packed low nibble first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import ContractError
from edgevlm.tensors import Float32

UInt8 = NDArray[np.uint8]
BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantBlocks:
    """A quantised matrix.

    Args:
        bits: 4 or 8.
        values: uint8 ``(out, blocks, block_size)``, one value a byte, in [0, 2^bits).
        scales: float32 ``(out, blocks)``.
        zeros: uint8 ``(out, blocks)``, or None for ``2^(bits-1)`` everywhere.
        rounded: made here, from a matrix that the source holds in full.
    """

    bits: int
    values: UInt8
    scales: Float32
    zeros: UInt8 | None
    rounded: bool = False

    @property
    def block_size(self) -> int:
        """Values that share one scale."""
        return int(self.values.shape[2])

    @property
    def in_features(self) -> int:
        """Width of the matrix; blocks are whole."""
        return int(self.values.shape[1] * self.values.shape[2])

    @classmethod
    def unpacked(
        cls, bits: int, block_size: int, values: UInt8, scales: Float32, zeros: UInt8 | None
    ) -> QuantBlocks:
        """From the arrays as ``packed_values`` and ``packed_zeros`` give them."""
        if bits == 4:
            values = _unpack_nibbles(values)
            zeros = None if zeros is None else _unpack_nibbles(zeros)
        rows = len(values)
        values = values.reshape(rows, -1, block_size)
        scales = np.asarray(scales, np.float32).reshape(rows, values.shape[1])
        if zeros is not None:
            zeros = zeros.reshape(rows, -1)[:, : values.shape[1]]
        return cls(bits=bits, values=values, scales=scales, zeros=zeros)

    def take_rows(self, rows: NDArray[np.int64]) -> QuantBlocks:
        """The same matrix with its rows in another order, without loss."""
        return QuantBlocks(
            bits=self.bits,
            values=self.values[rows],
            scales=self.scales[rows],
            zeros=None if self.zeros is None else self.zeros[rows],
        )

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Bits, block size, and whether the zero points are stored."""
        return self.bits, self.block_size, self.zeros is not None

    def without_zeros(self) -> QuantBlocks:
        """The same matrix with its zero points left out, if all of them are the middle."""
        if self.zeros is None or (self.zeros != 1 << (self.bits - 1)).any():
            return self
        return QuantBlocks(bits=self.bits, values=self.values, scales=self.scales, zeros=None)

    def packed_values(self) -> UInt8:
        """uint8 ``(out, blocks, block_size * bits / 8)``, low nibble first."""
        return self.values if self.bits == 8 else _pack_nibbles(self.values)

    def packed_zeros(self) -> UInt8 | None:
        """uint8 ``(out, ceil(blocks * bits / 8))``, or None."""
        if self.zeros is None or self.bits == 8:
            return self.zeros
        odd = self.zeros.shape[1] % 2
        return _pack_nibbles(np.pad(self.zeros, ((0, 0), (0, odd))))

    def centred(self) -> NDArray[np.int16]:
        """The values less their zero points: int16 ``(out, blocks, block_size)``."""
        middle = np.int16(1 << (self.bits - 1))
        zeros = middle if self.zeros is None else self.zeros.astype(np.int16)[:, :, None]
        return self.values.astype(np.int16) - zeros

    def dequantize(self) -> Float32:
        """The matrix that a kernel sees: float32 ``(out, in)``."""
        floats = self.centred().astype(np.float32) * self.scales[:, :, None]
        return floats.reshape(self.values.shape[0], -1)


def _pack_nibbles(values: UInt8) -> UInt8:
    return np.asarray(values[..., 0::2] | values[..., 1::2] << 4, np.uint8)


def _unpack_nibbles(packed: UInt8) -> UInt8:
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:-1], -1)


def stack_rows(parts: list[QuantBlocks]) -> QuantBlocks:
    """Several matrices over the same input as one; all must share bits, width and kind."""
    if len(parts) == 1:
        return parts[0]  # a head may take as much room as all layers
    zeros = [p.zeros for p in parts]
    mixed = {(p.in_features, *p.kind) for p in parts}
    if len(mixed) != 1:
        raise ContractError(f"cannot stack differently quantised matrices: {sorted(mixed)}")
    return QuantBlocks(
        bits=parts[0].bits,
        values=np.concatenate([p.values for p in parts]),
        scales=np.concatenate([p.scales for p in parts]),
        zeros=None if zeros[0] is None else np.concatenate([z for z in zeros if z is not None]),
    )


def _blocks_of(matrix: Float32, block_size: int) -> Float32:
    rows, width = matrix.shape
    if width % block_size:
        raise ContractError(
            f"in-features {width} is not a multiple of the block size {block_size}; "
            "keep this weight in fp32"
        )
    return matrix.reshape(rows, width // block_size, block_size)


def _room(matrix: Float32, block_size: int) -> tuple[UInt8, Float32]:
    """For the values and scales of a matrix, taken once: it may be a head."""
    count = len(matrix), matrix.shape[1] // block_size
    return np.empty((*count, block_size), np.uint8), np.empty(count, np.float32)


def _best(
    blocks: Float32,
    candidates: list[tuple[Float32, Float32]],
    top: int,
    importance: Float32 | None,
) -> tuple[UInt8, Float32, Float32]:
    """Of several (scale, zero) choices per block, the one with the least squared error."""
    weight = np.float32(1) if importance is None else importance.reshape(blocks.shape[1:])
    best_q = np.zeros(blocks.shape, np.uint8)
    best_scale, best_zero = (np.zeros(blocks.shape[:2], np.float32) for _ in range(2))
    best_error = np.full(blocks.shape[:2], np.inf, np.float32)
    for n, (scale, zero) in enumerate(candidates):
        safe = np.where(scale == 0, np.float32(1), scale)
        q = np.clip(np.rint(blocks / safe[..., None]) + zero[..., None], 0, top)
        with np.errstate(over="ignore"):  # then the first choice, plain rounding, stays
            error = np.square((q - zero[..., None]) * scale[..., None] - blocks)
            error = (error * weight).sum(-1)
        better = (error < best_error) | (n == 0)
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_zero = np.where(better, zero, best_zero)
        np.copyto(best_q, q.astype(np.uint8), where=better[..., None])
    return best_q, best_scale, best_zero


_SHRINK = (1.0, 0.97, 0.94, 0.91, 0.88, 0.84)
_ROWS_AT_ONCE = 2048


def quantize_asymmetric(
    matrix: Float32, bits: int = 4, block_size: int = BLOCK, importance: Float32 | None = None
) -> QuantBlocks:
    """Round to nearest with an integer zero point per block.

    Per block the range is shrunk in a few steps and the choice with the least squared error kept
    (clipping outliers costs less than a coarse grid). Zero is always on the grid.

    Args:
        matrix: float32 ``(out, in)``, ``in`` a multiple of ``block_size``.
        bits: 4 or 8.
        block_size: values per scale.
        importance: float32 ``(in,)``, what a squared error in each column counts; None is 1.
    """
    top = (1 << bits) - 1

    def choices(blocks: Float32) -> list[tuple[Float32, Float32]]:
        low = np.minimum(blocks.min(-1), 0)
        high = np.maximum(blocks.max(-1), 0)
        found = []
        for shrink in _SHRINK:
            scale = ((high - low) * np.float32(shrink / top)).astype(np.float32)
            safe = np.where(scale == 0, np.float32(1), scale)
            exact = -low * np.float32(shrink) / safe
            zeros = (np.rint(exact),) if shrink == 1.0 else (np.floor(exact), np.ceil(exact))
            found += [(scale, np.clip(z, 0, top).astype(np.float32)) for z in zeros]
        return found

    values, scales = _room(matrix, block_size)
    zeros = np.empty(scales.shape, np.uint8)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        blocks = _blocks_of(matrix[rows], block_size)
        values[rows], scales[rows], zeros[rows] = _best(blocks, choices(blocks), top, importance)
    return QuantBlocks(bits=bits, values=values, scales=scales, zeros=zeros)


def quantize_symmetric(
    matrix: Float32, bits: int, block_size: int = BLOCK, importance: Float32 | None = None
) -> QuantBlocks:
    """Round to nearest around zero: the zero point is ``2^(bits-1)`` everywhere.

    Scales are positive, as TensorRT wants them: the one step more that unsigned storage has below
    zero serves blocks whose largest value is negative.

    Args:
        matrix: float32 ``(out, in)``, ``in`` a multiple of ``block_size``.
        bits: 4 or 8.
        block_size: values per scale.
        importance: float32 ``(in,)``, what a squared error in each column counts; None is 1.
    """
    half = 1 << (bits - 1)
    steps = _SHRINK if bits == 4 else (1.0,)

    def choices(blocks: Float32) -> list[tuple[Float32, Float32]]:
        peak = np.abs(blocks).max(-1)
        zero = np.full(peak.shape, half, np.float32)
        return [(peak * np.float32(s / top), zero) for top in (half, half - 1) for s in steps]

    values, scales = _room(matrix, block_size)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        blocks = _blocks_of(matrix[rows], block_size)
        values[rows], scales[rows], _ = _best(blocks, choices(blocks), 2 * half - 1, importance)
    return QuantBlocks(bits=bits, values=values, scales=scales, zeros=None)
