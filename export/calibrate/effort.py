"""How much text a decoder is calibrated on, by what that takes."""

from __future__ import annotations

from edgevlm.bundle.decoder import DecoderSpec

MOST_TOKENS, LEAST_TOKENS = 15360, 1024
# Floating-point operations; some minutes on two cores.
BUDGET = 1.5e13
STRIP = 2304  # columns at most whose errors are passed on among each other


def strips(width: int) -> list[tuple[int, int]]:
    """Cut columns into strips of whole groups, none wider than ``STRIP``."""
    count = -(-width // STRIP)
    each = -(-width // count // 128) * 128 if count > 1 else width
    return [(start, min(start + each, width)) for start in range(0, width, each)]


def tokens_within(spec: DecoderSpec, budget: float = BUDGET) -> int:
    """Tokens of text that fit the budget; 0 if they would be too few to say anything.

    A token costs the products of all layers, and those of every layer's inputs with themselves;
    factorising the latter and passing errors on costs the same whatever the text.
    """
    hidden, inner = spec.hidden_size, spec.intermediate_size
    matrices = hidden * (2 * spec.q_size + 2 * spec.kv_size + 3 * inner)
    widths = (spec.q_size, hidden, inner)
    squares = [width * _strip(width) for width in widths]
    each = spec.num_layers * (2 * matrices + sum(squares))
    factors = sum(square * _strip(w) * 2 / 3 for square, w in zip(squares, widths, strict=True))
    outs = (hidden, 2 * inner, hidden)
    passed = sum(out * square for out, square in zip(outs, squares, strict=True))
    left = budget - spec.num_layers * (factors + passed)
    tokens = min(int(left / each), MOST_TOKENS)
    return tokens if tokens >= LEAST_TOKENS else 0


def _strip(width: int) -> int:
    first, last = strips(width)[0]
    return last - first
