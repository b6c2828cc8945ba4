"""Take positions out of the middle of a KV cache: what is behind them moves up, and is turned back.

A cached key was rotated by its position. Rotations add up, ``R(m) R(-d) = R(m - d)``, so a key that
moves ``d`` positions towards the beginning is turned by ``-d`` and is then exactly the key that its
new position would have given it; values have no position. Positions are those within the cache, as
in StreamingLLM (Xiao et al., 2023), section 3.2: they never grow over the capacity, and the graph,
which counts positions from the length of the cache, needs to know nothing.

Source of the rotation: RoFormer (Su et al., 2021), equation 34, with the pairs in two halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.rope import frequencies
from edgevlm.runtime.backends.base import StatefulGraph
from edgevlm.tensors import Array


def turned_back(keys: Array, spec: DecoderSpec, layer: int, distance: int) -> Array:
    """Keys of one layer as they are ``distance`` positions nearer to the beginning.

    Args:
        keys: float32 or float16 ``(..., head_dim)``, rotated.
        spec: of the decoder.
        layer: sliding layers may have rotary frequencies of their own.
        distance: positions.

    Returns:
        the same shape and dtype, computed in float32.
    """
    angles = distance * frequencies(spec, local=spec.slides(layer))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    half = spec.head_dim // 2
    first, second = keys[..., :half].astype(np.float32), keys[..., half:].astype(np.float32)
    turned = np.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)
    return turned.astype(keys.dtype)


def moved(
    state: StatefulGraph,
    spec: DecoderSpec,
    slots: tuple[int, int, int],
    distance: int,
    pending: Mapping[str, Array],
) -> Iterator[tuple[str, Array]]:
    """Move what is behind evicted positions, in every layer that attends.

    Args:
        state: of a decoder whose cache is updated in place, ``(1, kv_heads, capacity, head_dim)``.
        spec: of it.
        slots: the first that is evicted, the first that is not, and how many are filled.
        distance: by which rotary positions behind them become less.
        pending: what the cache is to begin the next call with, by input.

    Yields:
        name of an input and what it is now: a call that begins with it sees the moved cache.
    """
    start, stop, length = slots
    for layer in spec.attention_layers:
        for part in ("key", "value"):
            past = f"past_key_values.{layer}.{part}"
            cache = pending[past] if past in pending else state.output(f"present.{layer}.{part}")
            rows = cache[..., stop:length, :]
            rows = turned_back(rows, spec, layer, distance) if part == "key" else rows.copy()
            cache[..., start : start + length - stop, :] = rows
            yield past, cache
