"""Prefill, then tokens, as many a pass as can be confirmed, until something says stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgevlm.answer import FinishReason
from edgevlm.errors import ContractError
from edgevlm.runtime.model.draft import Drafter
from edgevlm.runtime.model.grammar import Guide
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.passes import Passes
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.sampling import Sampler
from edgevlm.tensors import Float32


def never() -> bool:
    """A stop rule that never stops."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends an answer besides the model.

    Args:
        max_tokens: at most this many tokens, the end token included.
        deadline_ns: monotonic time after which no further token is begun.
        cancelled: asked between tokens, and between the chunks of a long prompt.

    Raises:
        ContractError: ``max_tokens`` under 1.
    """

    max_tokens: int = 64
    deadline_ns: int | None = None
    cancelled: Callable[[], bool] = never

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ContractError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def over(self) -> FinishReason | None:
        """What ends the answer now, besides its length."""
        if self.cancelled():
            return "cancelled"
        if self.deadline_ns is not None and time.monotonic_ns() >= self.deadline_ns:
            return "deadline"
        return None


@dataclass(slots=True)
class Generation:
    """The growing result of one decode: read it while or after iterating.

    Args:
        token_ids: the answer so far.
        finish_reason: why it ended.
        log_probability: of the tokens that the model chose, summed.
        chosen: how many those are; the grammar forced the others.
        prefill_ms: until the first choice.
        decode_ms: after it.
        drafted: tokens that were guessed.
        accepted: guesses that the answer went on with.
        forced: tokens that the grammar left no choice about.
    """

    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "length"
    log_probability: float = 0.0
    chosen: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0
    drafted: int = 0
    accepted: int = 0
    forced: int = 0

    @property
    def confidence(self) -> float | None:
        """Geometric mean of the chosen tokens' probabilities; None without a token."""
        if not self.token_ids:
            return None
        return min(1.0, math.exp(self.log_probability / max(1, self.chosen)))


@dataclass(slots=True, kw_only=True)
class Decoding:
    """One answer: what it is made with, and the loop that makes it.

    Args:
        passes: the decoder's calls.
        stop_ids: tokens that end an answer.
        rules: of the checkpoint, for this prompt.
        sampler: chooses tokens.
        budget: what ends the answer besides the model.
        guide: through the grammar, where the answer follows one.
        drafter: guesses what comes next; only with a greedy sampler.
        result: filled on the way.
    """

    passes: Passes
    stop_ids: frozenset[int]
    rules: LogitRules
    sampler: Sampler
    budget: Budget
    guide: Guide | None = None
    drafter: Drafter | None = None
    result: Generation = field(default_factory=Generation)

    def tokens(self, rows: Rows, limit: int) -> Iterator[int]:
        """Prefill ``rows`` and yield tokens one by one, however many a pass confirms.

        The end token is yielded too: it is part of ``token_ids`` as transformers' ``generate``
        returns them. Between two tokens and between two chunks of a long prompt the budget is
        looked at; the graph itself cannot be stopped.

        Args:
            rows: of the prompt.
            limit: at most so many tokens.
        """
        result, passes = self.result, self.passes
        begun = time.perf_counter_ns()
        opening = self.guide.begin() if self.guide else []
        draft = self._draft(limit, opening[:limit], len(rows))
        logits = passes.prompt(rows, opening[:limit], draft, self._stopped)
        result.prefill_ms += _since(begun)
        if logits is None:
            return
        for token in opening:
            result.forced += 1
            ended = self._say(token, limit)
            yield token
            if ended:
                return
        draft, row = draft[: len(logits) - 1], 0
        while True:
            begun = time.perf_counter_ns()
            scores, replayed = self._scores(logits[row]), 0
            if passes.doubtful(scores):
                replayed, logits = passes.settle()
                self._outcome(draft, row, replayed)
                draft, row = [], 0
                scores = self._scores(logits[0])
            run = self._choose(scores)
            result.decode_ms += _since(begun)
            for number, token in enumerate(run):
                result.forced += number > 0
                ended = self._say(token, limit)
                if ended:
                    self._outcome(draft, row, 0)
                yield token
                if ended:
                    return
            begun = time.perf_counter_ns()
            same = passes.right(draft[row:], run)
            row += same
            if same < len(run):
                self._outcome(draft, row, passes.close())
                draft, row = self._draft(limit, run[same:], 0), 0
                logits = passes.run(run[same:], draft)
            result.decode_ms += _since(begun)

    def opening(self, limit: int) -> list[int] | None:
        """Say what every such answer begins with: the tokens that go behind the prompt.

        With ``follow``, for a caller that computes the rows of several answers in one call. None:
        the answer has ended.
        """
        opening = self.guide.begin() if self.guide else []
        return self._said(opening, limit, chosen=0)

    def follow(self, logits: Float32, limit: int) -> list[int] | None:
        """Say what follows from the logits of the last row: the tokens to compute next.

        None: the answer has ended.
        """
        return self._said(self._choose(self._scores(logits)), limit, chosen=1)

    def _said(self, run: list[int], limit: int, chosen: int) -> list[int] | None:
        for number, token in enumerate(run):
            self.result.forced += number >= chosen
            if self._say(token, limit):
                return None
        return run

    def _scores(self, logits: Float32) -> Float32:
        scores = self.rules.apply(logits)
        return self.guide.narrow(scores) if self.guide else scores

    def _choose(self, scores: Float32) -> list[int]:
        """A token, and those that the grammar has follow it."""
        token, log_probability = self.sampler.next(scores)
        self.result.log_probability += log_probability
        self.result.chosen += 1
        return [token, *(self.guide.take(token, scores) if self.guide else [])]

    def _say(self, token: int, limit: int) -> bool:
        """Put a token into the answer; True if it was the last one."""
        said = self.result.token_ids
        said.append(token)
        self.rules.said(token)
        if self.drafter:
            self.drafter.said(token)
        ended: FinishReason | None
        if self.rules.cut:
            ended = "length"  # the end token is the rules', not the model's
        elif token in self.stop_ids:
            ended = "stop"
        elif len(said) >= limit:
            ended = "length"
        else:
            ended = self.budget.over()
        if ended is not None:
            self.result.finish_reason = ended
        return ended is not None

    def _stopped(self) -> bool:
        begun = time.perf_counter_ns()
        over = self.budget.over()
        self.result.prefill_ms -= _since(begun)  # others may have had the model meanwhile
        if over is not None:
            self.result.finish_reason = over
        return over is not None

    def _draft(self, limit: int, pending: Sequence[int], prompt: int) -> list[int]:
        """A guess behind ``pending`` tokens, which stand behind ``prompt`` rows."""
        if self.drafter is None:
            return []
        left = limit - len(self.result.token_ids) - 1
        if prompt:  # the pending ones are not said yet
            left -= len(pending)
        return self.drafter.propose(min(left, self.passes.room - prompt - len(pending)))

    def _outcome(self, draft: Sequence[int], right: int, replayed: int) -> None:
        self.result.drafted += len(draft)
        self.result.accepted += right
        if self.drafter is not None:
            self.drafter.outcome(len(draft), right, replayed)


def _since(begun_ns: int) -> float:
    return (time.perf_counter_ns() - begun_ns) / 1e6
