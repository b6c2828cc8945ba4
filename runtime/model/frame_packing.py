"""Several frames under one budget of visual rows: the newest whole, older ones in fewer rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevlm.bundle.images import ImageSpec
from edgevlm.errors import ConfigError
from edgevlm.runtime.model.fewer_rows import fewer, row_count
from edgevlm.runtime.model.vision import Encoded


@dataclass(frozen=True, slots=True)
class Packed:
    """One frame of the prompt.

    Args:
        number: of the frame among those that were to be packed.
        encoded: in as many rows as it got.
        rows: how many that are.
    """

    number: int
    encoded: Encoded
    rows: int


def share(budget: int, weights: Sequence[float]) -> list[int]:
    """Divide ``budget`` by weight, whole units, all of it: frames of a camera, or cameras.

    Args:
        budget: 0 or more.
        weights: positive, one a taker.

    Returns:
        the shares; what rounding leaves goes to the largest remainders, earlier takers first.
    """
    total = sum(weights)
    exact = [budget * weight / total for weight in weights]
    shares = [int(part) for part in exact]
    by_rest = sorted(range(len(exact)), key=lambda n: (shares[n] - exact[n], n))
    for n in by_rest[: budget - sum(shares)]:
        shares[n] += 1
    return shares


def pack(
    frames: Sequence[Encoded],
    scores: Sequence[float],
    *,
    budget: int,
    most: int,
    spec: ImageSpec,
) -> list[Packed]:
    """Choose frames and divide the budget among them.

    The last frame gets as many rows as it has, if the budget allows. What is left is divided among
    the older frames with the best scores: as many of them as ``most`` allows and as can be shown
    in their share. Where rows cannot be averaged, that is as many as fit whole.

    Args:
        frames: in order of time, at least one.
        scores: of the frames; of equal ones the later goes first. The last one's does not count.
        budget: visual rows together.
        most: frames together.
        spec: image section of the manifest.

    Returns:
        the chosen frames in order of time.

    Raises:
        ConfigError: not even the last frame can be shown in ``budget`` rows.

    Source: few frames in detail beside many coarse ones as in TS-LLaVA (Qu et al., 2024,
    arXiv:2411.11066), means in the place of samples; the budget divided by the number of frames
    as in B-VLLM (Lu et al., 2024, arXiv:2412.09919).
    """
    last = len(frames) - 1
    newest = fewer(frames[last], budget, spec)
    if newest is None:
        raise ConfigError(
            f"one frame is {row_count(frames[last])} visual tokens, and cannot be shown in "
            f"window.tokens = {budget}"
        )
    packed = [Packed(last, newest, row_count(newest))]
    left = budget - packed[0].rows
    best = sorted(range(last), key=lambda n: (-scores[n], -n))
    for count in range(min(most - 1, last), 0, -1):
        chosen = sorted(best[:count])
        parts = share(left, [1.0] * count)
        shown = [fewer(frames[n], part, spec) for n, part in zip(chosen, parts, strict=True)]
        if all(part is not None for part in shown):
            older = [
                Packed(n, part, row_count(part))
                for n, part in zip(chosen, shown, strict=True)
                if part is not None
            ]
            return [*older, *packed]
    return packed
