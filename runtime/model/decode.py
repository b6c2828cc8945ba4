"""Prefill, then one token after another, until something says stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgevlm.answer import FinishReason
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.sampling import Sampler


def never() -> bool:
    """A stop rule that never stops."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends an answer besides the model.

    Args:
        max_tokens: at most this many tokens, the end token included.
        deadline_ns: monotonic time after which no further token is begun.
        cancelled: asked between tokens.

    Raises:
        ContractError: ``max_tokens`` under 1.
    """

    max_tokens: int = 64
    deadline_ns: int | None = None
    cancelled: Callable[[], bool] = never

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ContractError(f"max_tokens must be at least 1, got {self.max_tokens}")


@dataclass(slots=True)
class Generation:
    """The growing result of one decode: read it while or after iterating."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "length"
    log_probability: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the tokens' probabilities; None without a token."""
        if not self.token_ids:
            return None
        return min(1.0, math.exp(self.log_probability / len(self.token_ids)))


def generate(
    decoder: Decoder,
    table: EmbeddingTable,
    rows: Rows,
    stop_ids: frozenset[int],
    rules: LogitRules,
    sampler: Sampler,
    budget: Budget,
    result: Generation,
) -> Iterator[int]:
    """Prefill ``rows`` and yield tokens, filling ``result`` on the way.

    The end token is yielded too: it is part of ``token_ids`` as transformers' ``generate``
    returns them. Between two tokens the budget is looked at; the graph itself cannot be stopped.

    Raises:
        ContextOverflow: the prompt leaves no room for a single token.
    """
    if decoder.room(len(rows)) <= 0:
        raise ContextOverflow(
            f"the prompt has {decoder.length + len(rows)} tokens and the context holds "
            f"{decoder.capacity}: shorten the question, or export with a larger --max-context"
        )
    begun = time.perf_counter_ns()
    logits = decoder.append(rows)
    while True:
        token, log_probability = sampler.next(rules.apply(logits[-1]))
        rules.said(token)
        now = time.perf_counter_ns()
        if result.token_ids:
            result.decode_ms += (now - begun) / 1e6
        else:
            result.prefill_ms = (now - begun) / 1e6
        result.token_ids.append(token)
        result.log_probability += log_probability
        ended = _ended(token, stop_ids, decoder, budget, len(result.token_ids))
        if rules.cut:
            ended = "length"  # the end token is the rules', not the model's
        if ended is not None:
            result.finish_reason = ended
        yield token
        if ended is not None:
            return
        begun = time.perf_counter_ns()
        logits = decoder.append(table.rows([token]))


def _ended(
    token: int, stop_ids: frozenset[int], decoder: Decoder, budget: Budget, count: int
) -> FinishReason | None:
    if token in stop_ids:
        return "stop"
    if count >= budget.max_tokens or decoder.length >= decoder.capacity:
        return "length"
    if budget.cancelled():
        return "cancelled"
    if budget.deadline_ns is not None and time.monotonic_ns() >= budget.deadline_ns:
        return "deadline"
    return None
