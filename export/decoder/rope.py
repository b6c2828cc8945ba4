"""Rotary position tables."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.rope import frequencies
from edgevlm.tensors import Float32


def rope_tables(
    spec: DecoderSpec, positions: int, *, local: bool = False
) -> tuple[Float32, Float32]:
    """Cosine and sine of every angle, computed in float64.

    Args:
        spec: shape of the decoder.
        positions: how many.
        local: as in ``frequencies``.

    Returns:
        two float32 arrays ``(positions, head_dim / 2)``.

    Source: RoFormer (Su et al., 2021), section 3.2.2, equation 15.
    """
    angles = np.outer(np.arange(positions, dtype=np.float64), frequencies(spec, local=local))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
