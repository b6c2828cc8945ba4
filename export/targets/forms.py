"""In which form a matrix goes into a graph for TensorRT, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edgevlm.bundle.static_cache import TRT10_COMPAT, StaticLowering
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK, QuantBlocks, quantize_symmetric
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """Signed steps and their scales: ``w = scale * step``.

    Args:
        bits: 4 or 8.
        steps: integers ``(out, in)``.
        scales: float32 ``(out, blocks)``; one block is the whole row.
    """

    bits: int
    steps: Array
    scales: Float32

    @property
    def block_size(self) -> int:
        """Values that share a scale."""
        return int(self.steps.shape[1] // self.scales.shape[1])

    @property
    def kind(self) -> tuple[int, int]:
        """What matrices must share to be stacked."""
        return self.bits, self.block_size

    def dequantize(self) -> Float32:
        """Float32 ``(out, in)``."""
        return self.steps.astype(np.float32) * np.repeat(self.scales, self.block_size, axis=1)

    def cut(self, pieces: int) -> list[Steps]:
        """The rows in about equal parts."""
        both = zip(
            np.array_split(self.steps, pieces), np.array_split(self.scales, pieces), strict=True
        )
        return [Steps(bits=self.bits, steps=steps, scales=scales) for steps, scales in both]


def stack(parts: list[Steps]) -> Steps:
    """Matrices of one kind over the same input as one."""
    if len(parts) == 1:
        return parts[0]
    return Steps(
        bits=parts[0].bits,
        steps=np.concatenate([p.steps for p in parts]),
        scales=np.concatenate([p.scales for p in parts]),
    )


KEPT = "kept"
SMALLEST = 6e-8  # of a scale in half precision that is not zero


def default_precision(stored: str, lowering: StaticLowering) -> str:
    """What a build without ``--precision`` makes of a bundle's precision.

    ``kept`` leaves symmetric blocks as they are, and makes fp16 of everything else.
    """
    if stored == "int8":
        return "int8"
    return KEPT if stored == "int4" and lowering != TRT10_COMPAT else "fp16"


@dataclass(slots=True)
class Forms:
    """Chooses the form of each matrix, and remembers what was lost.

    Args:
        source: the bundle's weights.
        precision: of the build, or ``kept``.
        per_channel: 8-bit matrices have one scale an output channel; otherwise blocks, which hold
            any block of 4 or 8 bits without loss.
        plan: of an int4 build, for matrices that the bundle has in floats.
    """

    source: WeightSource
    precision: str
    per_channel: bool
    plan: PrecisionPlan
    bits: set[int] = field(default_factory=set)
    unpacked: int = 0
    losses: dict[str, dict[str, float]] = field(default_factory=dict)

    def steps(self, name: str) -> Steps | None:
        """The quantised form of a matrix, or None where it stays in floats."""
        stored = self.source.blocks(f"{name}.weight")
        stored = None if stored is None else stored.without_zeros()
        bits = self._bits(name, stored)
        if bits is None:
            self.unpacked += stored is not None
            return None
        made = self._kept(name, stored, bits) or self._rounded(name, bits)
        if made is not None:
            self.bits.add(made.bits)
        return made

    def _bits(self, name: str, stored: QuantBlocks | None) -> int | None:
        if self.precision == KEPT:
            return stored.bits if stored is not None and stored.zeros is None else None
        if self.precision == "int8":
            return 8
        if self.precision != "int4":
            return None
        if stored is not None:
            return stored.bits
        return 4 if self.plan.of(name) == "int4" else 8

    def _kept(self, name: str, stored: QuantBlocks | None, bits: int) -> Steps | None:
        """Stored blocks with their own scales; those whose steps do not fit are rounded anew.

        TensorRT's parser takes negative scales of 4-bit blocks only (seen with TensorRT-RTX 1.7).
        Elsewhere a block with one is turned over, and its lowest step, if it is used, then lies
        one over the highest.
        """
        if stored is None or (bits == 8 and self.per_channel):
            return None
        signed = bits == 4 and not self.per_channel
        steps, scales = _usable(stored.centred(), stored.scales, signed=signed)
        over = _over(steps, bits)
        if over.any():
            exact = steps[over].astype(np.float32) * scales[over][:, None]
            rounded = quantize_symmetric(exact, bits, steps.shape[-1])
            steps[over] = rounded.centred()[:, 0]
            scales[over] = rounded.scales[:, 0]
            self._note(name, bits, stored.dequantize(), _flat(bits, steps, scales))
        return _flat(bits, steps, scales)

    def _rounded(self, name: str, bits: int) -> Steps | None:
        matrix = self.source.get(f"{name}.weight")
        size = matrix.shape[1] if bits == 8 and self.per_channel else BLOCK
        if matrix.shape[1] % size:
            return None
        if size == BLOCK:
            blocks = quantize_symmetric(matrix, bits)
            made = _flat(bits, *_usable(blocks.centred(), blocks.scales, signed=False))
        else:
            made = _per_channel(matrix)
        self._note(name, bits, matrix, made)
        return made

    def _note(self, name: str, bits: int, matrix: Float32, made: Steps) -> None:
        size = float(np.linalg.norm(matrix)) or 1.0
        lost = float(np.linalg.norm(made.dequantize() - matrix)) / size
        if lost:
            self.losses.setdefault(f"int{bits}", {})[name] = lost

    def notes(self) -> tuple[str, ...]:
        """What was unpacked; what was rounded anew, with the largest error of a matrix."""
        lines = [f"{self.unpacked} quantised matrices unpacked"] if self.unpacked else []
        for kind, lost in sorted(self.losses.items()):
            name, worst = max(lost.items(), key=lambda item: item[1])
            lines.append(
                f"{len(lost)} matrices rounded anew to symmetric {kind}: relative error at most "
                f"{worst:.2g} ({name})"
            )
        return tuple(lines)


def _usable(steps: Array, scales: Float32, *, signed: bool) -> tuple[Array, Float32]:
    """Copies of steps ``(out, blocks, block)`` and scales that are not zero in half precision.

    Unless ``signed``, they are positive too.
    """
    nothing = np.abs(scales) < SMALLEST
    turned = steps if signed else np.where(scales[..., None] < 0, -steps, steps)
    turned = np.where(nothing[..., None], 0, turned).astype(steps.dtype)
    size = scales if signed else np.abs(scales)
    return turned, np.where(nothing, np.float32(1), size)


def _over(steps: Array, bits: int) -> Array:
    """Which blocks have steps that so many bits do not hold, bool ``(out, blocks)``."""
    half = 1 << (bits - 1)
    over: Array = (steps.min(-1) < -half) | (steps.max(-1) >= half)
    return over


def _flat(bits: int, steps: Array, scales: Float32) -> Steps:
    return Steps(bits=bits, steps=steps.reshape(len(steps), -1), scales=scales)


def _per_channel(matrix: Float32) -> Steps:
    scales = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    safe = np.where(scales < SMALLEST, np.float32(1), scales)
    return Steps(bits=8, steps=np.rint(matrix / safe).astype(np.int16), scales=safe)
