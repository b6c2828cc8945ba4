"""From a prompt to the tokens of its answer: what decoding needs, put together."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.confidence import UNCALIBRATED
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.parity import BatchShape
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.asking import Asking
from edgevlm.runtime.model.batch_shape import (
    CERTIFIED,
    ON_THE_WAY,
    measure,
    needed_gap,
    of_bundle,
)
from edgevlm.runtime.model.branches import BranchedDecoder, open_branches
from edgevlm.runtime.model.decode import Decoding
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.draft import Drafter
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.grammar import GrammarCompiler
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.passes import Passes
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.sampling import Sampler
from edgevlm.runtime.model.turn import Turn
from edgevlm.tensors import Float32

Asked = tuple[Turn, Sequence[int], Rows, Asking]  # as arguments of ``Answering.tokens``


class Answering:
    """Decodes answers with one decoder.

    Args:
        bundle: of a language model.
        backend: that runs it.
        decoder: loaded.
        table: embeddings of the vocabulary.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, decoder: Decoder, table: EmbeddingTable
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self._decoder = decoder
        self._table = table
        self._spec, _, prompt = bundle.manifest.language
        self._stop_ids = frozenset(prompt.stop_token_ids)
        self._confidence = bundle.manifest.confidence or UNCALIBRATED
        self._compiler: GrammarCompiler | None = None
        self._branched: BranchedDecoder | None = None
        self._tried = False  # to load it
        self._needed: float | None = None  # of the gap in a drafting pass; infinite: none drafts

    def prepare(self, asking: Asking) -> None:
        """Make what outlives an answer, while the cache is nobody's.

        Raises:
            SchemaError: a schema that cannot be used.
            ConfigError: llguidance is not installed.
            ContractError: a schema for an encoder-decoder.
        """
        if asking.schema is not None:
            manifest = self._bundle.manifest
            if manifest.seq2seq is not None:
                raise ContractError(
                    f"{manifest.name} answers task prompts in its own notation: an "
                    "encoder-decoder takes no schema"
                )
            if self._compiler is None:
                words = self._bundle.read_text("tokenizer.json")
                stops = self._bundle.manifest.language.prompt.stop_token_ids
                self._compiler = GrammarCompiler(words, self._spec.vocab_size, stops)
            self._compiler.guide(asking.schema)
        if self._needed is None and asking.drafts is not None and self._decoder.wide:
            shape = of_bundle(self._bundle, self._backend) or self.batch_shape(ON_THE_WAY)
            precision = self._bundle.manifest.graphs["decoder"].precision
            self._needed = needed_gap(shape, precision)

    def batch_shape(self, count: int = CERTIFIED) -> BatchShape | None:
        """How far passes of several rows are from steps of one, measured now."""
        return measure(self._decoder, self._table, self._backend, count)

    def _drafter(self, asking: Asking, prompt: Sequence[int]) -> Drafter | None:
        greedy = asking.sampling.temperature == 0
        if asking.drafts is None or not greedy or self._needed in (None, math.inf):
            return None
        return asking.drafts.begin(prompt, self._stop_ids)

    def tokens(
        self, turn: Turn, prompt: Sequence[int], rows: Rows, asking: Asking
    ) -> Iterator[int]:
        """Yield the answer's tokens, filling ``turn`` on the way.

        Args:
            turn: whose prompt it is.
            prompt: the whole of it as token ids.
            rows: of the prompt, behind what the cache holds.
            asking: settings, which were prepared.

        Raises:
            ContextOverflow: the prompt leaves no room for a single token.
        """
        drafter = self._drafter(asking, prompt)
        decoding, limit = self._decoding(turn, prompt, rows, asking, drafter)
        yield from decoding.tokens(rows, limit)
        if drafter is not None and turn.generation.finish_reason in ("stop", "length"):
            drafter.end()

    def _decoding(
        self,
        turn: Turn,
        prompt: Sequence[int],
        rows: Rows,
        asking: Asking,
        drafter: Drafter | None = None,
    ) -> tuple[Decoding, int]:
        """What makes an answer, and how many tokens it may have."""
        room = self._decoder.room(len(rows))
        if room <= 0:
            raise ContextOverflow(
                f"the prompt has {self._decoder.length + len(rows)} tokens and the context holds "
                f"{self._decoder.capacity}: shorten the question, or export with a larger "
                "--max-context"
            )
        limit = min(asking.budget.max_tokens, room + 1)
        if asking.schema is not None and self._compiler is not None:
            turn.guide = self._compiler.guide(asking.schema, self._confidence.fields)
        scale = self._confidence.answers if turn.guide is None else self._confidence.fields
        decoding = Decoding(
            passes=Passes(self._decoder, self._table, self._needed or 0.0),
            stop_ids=self._stop_ids,
            rules=LogitRules.of(self._bundle.manifest, prompt, limit),
            sampler=Sampler(asking.sampling, scale),
            budget=asking.budget,
            guide=turn.guide,
            drafter=drafter,
            result=turn.generation,
        )
        return decoding, limit

    def prepare_many(self, asking: Sequence[Asking], *, together: bool) -> None:
        """``prepare`` for several answers, and load what decodes them side by side."""
        for options in asking:
            self.prepare(options)
        if together and len(asking) > 1 and not self._tried:
            self._tried = True
            self._branched = open_branches(self._bundle, self._backend, self._decoder, self._table)

    def at_once(self, asked: Sequence[Asked]) -> int:
        """How many of these answers are decoded side by side, behind what the cache holds.

        0: one after another, because the bundle has no graph for it, a row comes out otherwise in
        company, or a cache might be full before its answer is.
        """
        if self._branched is None:
            return 0
        longest = max(len(rows) + options.budget.max_tokens for _, _, rows, options in asked)
        fits = self._decoder.length + longest <= self._branched.capacity
        return self._branched.count if fits else 0

    def together(self, asked: Sequence[Asked]) -> Iterator[None]:
        """Answer up to ``at_once`` questions side by side; yields between two calls.

        Every answer is the one of single steps, and nothing is drafted. Each bears its share of a
        call's time.
        """
        branched = self._branched
        cache = self._decoder.memory() if isinstance(self._decoder, CachedDecoder) else None
        if branched is None or cache is None:
            raise AssertionError("at_once said so")
        begun = time.perf_counter_ns()
        branched.begin_with(cache, self._decoder.length)
        made = [self._decoding(*question) for question in asked]
        parts: dict[int, Float32] = {}
        for b, (decoding, limit) in enumerate(made):
            if (opening := decoding.opening(limit)) is not None:
                parts[b] = np.concatenate([asked[b][2].embeds, self._table.rows(opening)])
        first = True
        while parts:
            logits = branched.append(parts)
            going = {b: made[b][0].follow(row, made[b][1]) for b, row in logits.items()}
            spent = (time.perf_counter_ns() - begun) / 1e6 / len(parts)
            for b in parts:
                done = made[b][0].result
                done.prefill_ms, done.decode_ms = (
                    (spent, 0.0) if first else (done.prefill_ms, done.decode_ms + spent)
                )
            begun, first = time.perf_counter_ns(), False
            parts = {b: self._table.rows(run) for b, run in going.items() if run is not None}
            yield

    def close(self) -> None:
        """Release what ``prepare_many`` has loaded; may be called twice."""
        if self._branched is not None:
            self._branched.close()
            self._branched = None
