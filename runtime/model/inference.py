"""One question through the graphs: pictures, prompt, prefill, tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.errors import BackendMemoryError, ContractError
from edgevlm.parity import BatchShape
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.answering import Answering
from edgevlm.runtime.model.asking import Asking
from edgevlm.runtime.model.context import Context
from edgevlm.runtime.model.decoder import load_decoder
from edgevlm.runtime.model.detokenize import TextStream
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.prompt import Prompt
from edgevlm.runtime.model.reader import Reader
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.rows_builder import RowsBuilder
from edgevlm.runtime.model.seq2seq import Seq2SeqDecoder
from edgevlm.runtime.model.session import SessionParts
from edgevlm.runtime.model.turn import Turn
from edgevlm.runtime.model.vision import Encoded, VisionEncoder
from edgevlm.tensors import Array, Float32

Conversation = list[Mapping[str, Any]]


class Inference:
    """A bundle's tokenizer, prompt and graphs, working together. Not thread-safe.

    Args:
        bundle: an opened bundle.
        backend: runs its graphs.
        watch: intermediate outputs of the decoder to keep, for the certificate.
        visual_tokens: of a picture, one of the bundle's budgets; None is its default.

    Raises:
        ContractError: the bundle has no language model.
        ConfigError: it has no such budget of visual tokens.
        BundleCorrupt: a damaged tokenizer or template, or no embedding table.
        BackendError: a graph does not load.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        watch: tuple[str, ...] = (),
        visual_tokens: int | None = None,
    ) -> None:
        self._spec, _, _ = bundle.manifest.language
        self._backend = backend.name
        self._calibrated = bundle.manifest.confidence is not None
        self._closed = False
        self._reader = Reader(bundle, backend, visual_tokens)
        self._table = EmbeddingTable(bundle)
        self._decoder = load_decoder(bundle, backend, self._table, watch)
        self._answering = Answering(bundle, backend, self._decoder, self._table)
        self._context = Context(self._decoder, self._table, self._spec.prefix_attention)

    @property
    def vision(self) -> VisionEncoder | None:
        """The vision encoder, where the bundle has one."""
        return self._reader.vision

    def text_stream(self) -> TextStream:
        """A decoder of tokens to text, at its beginning."""
        return TextStream(self._reader.tokenizer)

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One picture through the vision encoder, unless it is encoded already.

        Args:
            image: the picture, or what came of it.
            among: so many pictures in the prompt.
        """
        return self._reader.encode(image, among)

    def begin(
        self, turn: Turn, messages: list[Mapping[str, Any]], encoded: Sequence[Encoded] = ()
    ) -> Rows:
        """Encode the pictures, build the prompt, and give the rows behind its constant part.

        Args:
            turn: a new one.
            messages: of the conversation.
            encoded: its pictures, where another turn has encoded them.

        Raises:
            ContractError: messages that do not fit.
        """
        self._reader.read(turn, messages, encoded)
        begun = time.perf_counter_ns()
        rows = self._rows(turn.prompt, turn)
        turn.prepare_ms += (time.perf_counter_ns() - begun) / 1e6
        return rows

    def prompt_ids(self, turn: Turn) -> list[int]:
        """The whole prompt as token ids, the image token (or -1) at every visual row."""
        return self._reader.prompt_ids(turn)

    def tokens(
        self, turn: Turn, messages: list[Mapping[str, Any]], asking: Asking
    ) -> Iterator[int]:
        """Yield the answer's tokens, filling ``turn`` on the way.

        Raises:
            ContractError: messages that do not fit, or a model closed meanwhile.
            ContextOverflow: the prompt does not fit the cache.
        """
        self._answering.prepare(asking)
        rows = self.begin(turn, messages)
        turn.prefix_ms = self._context.prepare(turn.prompt)
        for token in self._answering.tokens(turn, self.prompt_ids(turn), rows, asking):
            yield token
            self._still_open()

    def many(
        self,
        turns: list[Turn],
        messages: list[Conversation],
        asking: list[Asking],
        *,
        together: bool = True,
    ) -> Iterator[Answer]:
        """Answer several questions about the same pictures; ``turns`` are new, one a question.

        What their prompts begin with is computed once. The first answer bears its cost, and that
        of encoding. With ``together`` the rest is computed side by side, where it can be.

        Raises:
            ContractError, ContextOverflow: as ``tokens``.
        """
        try:
            yield from self._many(turns, messages, asking, together)
        except (MemoryError, BackendMemoryError):
            self._answering.close()  # what decodes side by side goes first, and is not tried again
            raise

    def _many(
        self, turns: list[Turn], messages: list[Conversation], asking: list[Asking], together: bool
    ) -> Iterator[Answer]:
        self._answering.prepare_many(asking, together=together)
        first, pairs = turns[0], zip(turns, messages, strict=True)
        rows = [self.begin(turn, own, first.encoded) for turn, own in pairs]
        first.prefix_ms = self._context.prepare(first.prompt)
        alike = len({self._context.constant_part(turn.prompt) for turn in turns}) == 1
        shared, spent = self._context.share(rows) if alike else (0, 0.0)
        first.prefix_ms += spent
        asked = [
            (turn, self.prompt_ids(turn), own.part(shared, len(own)), options)
            for turn, own, options in zip(turns, rows, asking, strict=True)
        ]
        count = self._answering.at_once(asked) if together and alike else 0
        while count and len(asked) > 1:
            for _ in self._answering.together(asked[:count]):
                self._still_open()
            yield from (self.answer(turn) for turn, *_ in asked[:count])
            asked = asked[count:]
        for turn, prompt, behind, options in asked:
            if turn is not first:
                turn.begun_ns = time.perf_counter_ns()
            if shared:
                self._context.back(turn.prompt, shared)
            elif turn is not first:
                turn.prefix_ms = self._context.prepare(turn.prompt)
            for _ in self._answering.tokens(turn, prompt, behind, options):
                self._still_open()
            yield self.answer(turn)

    def _still_open(self) -> None:
        if self._closed:
            raise ContractError("this model was closed while it was answering")

    def session_parts(self, alone: Callable[[], AbstractContextManager[None]]) -> SessionParts:
        """What a session works with; ``alone`` is entered around every call."""
        self._answering.prepare(Asking(drafts=Drafts()))  # what it measures needs the cache
        return SessionParts(
            reader=self._reader,
            decoder=self._decoder,
            context=self._context,
            answering=self._answering,
            table=self._table,
            alone=alone,
            answer=self.answer,
        )

    def batch_shape(self) -> BatchShape | None:
        """How far passes of several rows are from steps of one, measured now."""
        return self._answering.batch_shape()

    def follow(self, turn: Turn, rows: Rows, tokens: Array) -> tuple[Float32, dict[str, Float32]]:
        """Logits, and the watched values, where an answer is given and not chosen.

        Args:
            turn: a begun turn.
            rows: of its prompt.
            tokens: int64 ``(steps,)``, the answer.

        Returns:
            float32 ``(steps, vocab_size)``: what the model would say in place of each token, and
            the watched values ``(steps, hidden_size)`` by name.
        """
        turn.prefix_ms = self._context.prepare(turn.prompt)
        logits = [self._decoder.append(rows).copy()]
        seen = {name: [value[-1:].copy()] for name, value in self._decoder.watched.items()}
        for token in tokens[:-1].tolist():
            logits.append(self._decoder.append(self._table.rows([token])).copy())
            for name, value in self._decoder.watched.items():
                seen[name].append(value[-1:].copy())
        return np.concatenate(logits), {name: np.concatenate(v) for name, v in seen.items()}

    @property
    def encoded(self) -> Float32 | None:
        """The last prompt's rows behind the encoder, of an encoder-decoder."""
        return self._decoder.encoded if isinstance(self._decoder, Seq2SeqDecoder) else None

    def _rows(self, prompt: Prompt, turn: Turn) -> Rows:
        """Embeddings behind the constant part, pictures in their slots."""
        constant = self._context.constant_part(prompt)
        builder = RowsBuilder(self._spec, len(constant))
        builder.prompt(() if constant else prompt.texts[0], prompt, turn.encoded, self._table)
        rows = builder.rows()
        if not len(rows):
            raise ContractError("the prompt is empty")
        turn.visual_tokens = sum(len(turn.encoded[n].segments[m].rows) for n, m in prompt.segments)
        turn.prompt_tokens = sum(map(len, prompt.texts)) + turn.visual_tokens
        return rows

    def answer(self, turn: Turn) -> Answer:
        """What a finished turn gave, and what it cost."""
        return turn.answer(self._reader.tokenizer, self._backend, calibrated=self._calibrated)

    def close(self) -> None:
        """Release graphs and cache; may be called twice."""
        self._closed = True
        self._answering.close()
        self._decoder.close()
        self._reader.close()
