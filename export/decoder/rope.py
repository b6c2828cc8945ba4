"""Rotary position tables."""

from __future__ import annotations

import math

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.tensors import Array, Float32


def rope_tables(
    spec: DecoderSpec, positions: int, *, local: bool = False
) -> tuple[Float32, Float32]:
    """Cosine and sine of every angle, computed in float64.

    Args:
        spec: shape of the decoder.
        positions: how many.
        local: for the sliding layers of a model that gives them a base of their own; their
            frequencies are not stretched.

    Returns:
        two float32 arrays ``(positions, head_dim / 2)``.

    Source: RoFormer (Su et al., 2021), section 3.2.2, equation 15.
    """
    angles = np.outer(np.arange(positions, dtype=np.float64), frequencies(spec, local=local))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def frequencies(spec: DecoderSpec, *, local: bool = False) -> Array:
    """Angle a position of every rotary pair, float64 ``(head_dim / 2,)``; see ``rope_tables``."""
    exponents = np.arange(0, spec.head_dim, 2, dtype=np.float64) / spec.head_dim
    local = local and spec.local_rope_theta is not None
    theta = spec.local_rope_theta if local and spec.local_rope_theta else spec.rope_theta
    found: Array = theta**-exponents
    if spec.rope_scaling is not None and not local:
        found = _scaled(found, spec.rope_scaling)
    return found


def _scaled(frequencies: Array, scaling: RopeScaling) -> Array:
    if scaling.type == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_positions / wavelengths
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    return frequencies * (blend + (1 - blend) / scaling.factor)
