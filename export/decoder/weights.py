"""Where a decoder's weights come from, under one set of names.

Canonical names are those of a Hugging Face Llama checkpoint without the ``model.`` prefix:
``embed_tokens.weight``, ``layers.0.self_attn.q_proj.weight``, ``norm.weight``, ``lm_head.weight``.
Matrices are ``(out, in)``; rotary halves are not interleaved.
"""

from __future__ import annotations

from typing import Protocol

from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32


class WeightSource(Protocol):
    """Weights by canonical name, read when asked for."""

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        ...

    def get(self, name: str) -> Float32:
        """The weight as float32.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        ...

    def blocks(self, name: str) -> QuantBlocks | None:
        """The weight as stored, if it already has a layout that is kept without loss."""
        ...
