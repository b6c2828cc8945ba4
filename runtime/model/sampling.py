"""From logits to one token."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgevlm.errors import BackendError, ContractError
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen.

    Args:
        temperature: 0 is greedy; above, logits are divided by it.
        top_p: keep the smallest set of tokens whose probability reaches this, in (0, 1].
        seed: of the random generator; None draws one.

    Raises:
        ContractError: a value out of its range.

    Source of ``top_p``: nucleus sampling, Holtzman et al., 2019, section 3.1.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise ContractError(f"temperature must be >= 0, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ContractError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.seed is not None and self.seed < 0:
            raise ContractError(f"seed must be >= 0, got {self.seed}")


class Sampler:
    """Draws tokens, and tells how probable each was.

    Args:
        options: temperature, top_p, seed.
        confidence: temperature of the probabilities that it tells; of no token that it draws.
    """

    def __init__(self, options: SamplingOptions, confidence: float = 1.0) -> None:
        self._options = options
        self._sharpness = np.float32(1.0 / confidence)
        self._random: np.random.Generator | None = None
        self._chances = np.zeros(0, np.float32)

    def next(self, logits: Float32) -> tuple[int, float]:
        """A token id and its log probability at the temperature of confidences.

        Args:
            logits: float32 ``(vocab_size,)``.

        Raises:
            BackendError: the logits are not finite.
        """
        best = int(logits.argmax())  # a NaN counts as the largest
        peak = float(logits[best])
        if not np.isfinite(peak):
            raise BackendError("the decoder gave logits that are not finite")
        token = best if self._options.temperature == 0 else self._draw(logits, peak)
        if len(self._chances) != len(logits):
            self._chances = np.empty_like(logits)
        np.subtract(logits, np.float32(peak), out=self._chances)
        if self._sharpness != 1:
            self._chances *= self._sharpness
        log_chosen = float(self._chances[token])
        np.exp(self._chances, out=self._chances)
        # Pairwise sums: float32 is enough for it.
        return token, log_chosen - math.log(self._chances.sum())

    def _draw(self, logits: Float32, peak: float) -> int:
        if self._random is None:
            self._random = np.random.default_rng(self._options.seed)
        weights = np.exp((logits.astype(np.float64) - peak) / self._options.temperature)
        weights /= weights.sum()
        if self._options.top_p < 1.0:
            order = np.argsort(-weights, kind="stable")
            kept = int(np.searchsorted(np.cumsum(weights[order]), self._options.top_p)) + 1
            allowed = order[:kept]
            share = weights[allowed] / weights[allowed].sum()
            return int(self._random.choice(allowed, p=share))
        return int(self._random.choice(len(weights), p=weights))
