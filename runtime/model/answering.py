"""From a prompt to the tokens of its answer: what decoding needs, put together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgevlm.bundle import Bundle
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
from edgevlm.runtime.model.decode import Decoding
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.draft import Drafter
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.grammar import GrammarCompiler
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.passes import Passes
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.sampling import Sampler
from edgevlm.runtime.model.turn import Turn


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
        self._compiler: GrammarCompiler | None = None
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
        room = self._decoder.room(len(rows))
        if room <= 0:
            raise ContextOverflow(
                f"the prompt has {self._decoder.length + len(rows)} tokens and the context holds "
                f"{self._decoder.capacity}: shorten the question, or export with a larger "
                "--max-context"
            )
        limit = min(asking.budget.max_tokens, room + 1)
        if asking.schema is not None and self._compiler is not None:
            turn.guide = self._compiler.guide(asking.schema)
        drafter = self._drafter(asking, prompt)
        decoding = Decoding(
            passes=Passes(self._decoder, self._table, self._needed or 0.0),
            stop_ids=self._stop_ids,
            rules=LogitRules.of(self._bundle.manifest, prompt, limit),
            sampler=Sampler(asking.sampling),
            budget=asking.budget,
            guide=turn.guide,
            drafter=drafter,
            result=turn.generation,
        )
        yield from decoding.tokens(rows, limit)
        if drafter is not None and turn.generation.finish_reason in ("stop", "length"):
            drafter.end()
