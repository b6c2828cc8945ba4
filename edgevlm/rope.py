"""Rotary frequencies of a decoder: what its tables are made of, and what turns cached keys on."""

from __future__ import annotations

import math

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.tensors import Array


def frequencies(spec: DecoderSpec, *, local: bool = False) -> Array:
    """Angle a position of every rotary pair.

    Args:
        spec: shape of the decoder.
        local: for the sliding layers of a model that gives them a base of their own; their
            frequencies are not stretched.

    Returns:
        float64 ``(head_dim / 2,)``.

    Source: RoFormer (Su et al., 2021), section 3.2.2, equation 15.
    """
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
