"""A stream in a model's cache: frames and notes go through it once, questions come and go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from edgevlm.answer import Answer
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.model.answering import Answering
from edgevlm.runtime.model.asking import asking_of
from edgevlm.runtime.model.context import Context
from edgevlm.runtime.model.decode import never
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_ring import KvRing, Span
from edgevlm.runtime.model.prompt import Prompt
from edgevlm.runtime.model.reader import Reader
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.rows_builder import RowsBuilder
from edgevlm.runtime.model.turn import Turn
from edgevlm.runtime.model.vision import Encoded

SEVERAL = 2  # pictures in the prompt, as the encoder is told; some families then cut no tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParts:
    """What a session works with, all of one loaded bundle.

    Args:
        reader: of pictures and texts.
        decoder: its cache becomes the session's.
        context: the cache in front of answers.
        answering: decodes.
        table: embeddings of the vocabulary.
        alone: entered around every call.
        answer: what a finished turn gave.
    """

    reader: Reader
    decoder: Decoder
    context: Context
    answering: Answering
    table: EmbeddingTable
    alone: Callable[[], AbstractContextManager[None]]
    answer: Callable[[Turn], Answer]


class Session:
    """Frames of a stream without end, and questions about those that are still remembered.

    Every frame goes through encoder and decoder once, whatever is asked later. What the cache holds
    was computed in sight of frames that are gone by now: an answer is not that to the remaining
    frames alone, and a model that was not trained for it may say less than to a window of frames
    (StreamingVLM, Xu et al., 2025, arXiv:2510.09608, trains for it).

    The cache is the model's only one: another question to the model ends the session.

    Args:
        parts: of the bundle.
        ring: of its decoder.
        system: system turn; the manifest's own when None.
    """

    def __init__(self, parts: SessionParts, ring: KvRing, system: str | None = None) -> None:
        self._parts = parts
        self._ring = ring
        self._image = parts.reader.image_token
        self._around = parts.reader.prompts.around_frames(system)
        self._owner = parts.context.take()
        ids = parts.reader.prompts.begin(self._around)
        ring.begin(self._text(ids), ids)

    def see(self, image: Any, caption: str = "", at_s: float = 0.0) -> Span:
        r"""Remember a picture.

        Args:
            image: as in ``Vlm.ask``.
            caption: stands before it, such as ``"\n12.0 s: "``.
            at_s: its time.

        Raises:
            ContextOverflow: it is larger than what is kept for pictures.
            ContractError: the session is over.
            ImageError: a picture that cannot be taken.
        """
        parts = self._parts
        with parts.alone():
            self._mine()
            encoded = parts.reader.encode(image, SEVERAL)
            prompt = parts.reader.prompts.frame(
                self._around,
                caption,
                encoded.labels,
                encoded.expansion,
                parts.reader.scene(encoded),
            )
            span = Span("vision", at_s, tuple(prompt.ids([encoded], self._image)))
            self._add(lambda: self._rows(prompt, encoded), span)
            return span

    def note(self, text: str, at_s: float = 0.0) -> Span:
        """Remember a text, such as an answer.

        Raises:
            ContextOverflow: it is longer than what is kept for texts.
            ContractError: the session is over, or the text has no tokens.
        """
        with self._parts.alone():
            self._mine()
            ids = self._parts.reader.prompts.tokens(text)
            if not ids:
                raise ContractError("a note of no tokens")
            span = Span("text", at_s, ids)
            self._add(lambda: self._text(ids), span)
            return span

    def ask(
        self,
        question: str,
        *,
        schema: Any = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        draft: Drafts | bool = True,
        deadline_ns: int | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Answer:
        """Answer a question about what is remembered; it is forgotten again, and its answer too.

        Settings are those of ``Vlm.ask``.

        Raises:
            ContextOverflow: there is no room for it behind what is remembered.
            ContractError: the session is over, or settings do not fit.
            SchemaError, ConfigError: as ``Vlm.ask``.
        """
        parts, ring = self._parts, self._ring
        asking = asking_of(
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            draft=draft,
            deadline_ns=deadline_ns,
            cancelled=cancelled,
        )
        with parts.alone():
            self._mine()
            parts.answering.prepare(asking)
            ids = parts.reader.prompts.tokens(self._around.ask + question + self._around.tail)
            base, turn = ring.decoder.length, Turn()
            turn.prompt_tokens = base + len(ids)
            turn.visual_tokens = sum(s.ids.count(self._image) for s in ring.spans)
            try:
                prompt = [*ring.ids, *ids]
                for _ in parts.answering.tokens(turn, prompt, self._text(ids), asking):
                    pass
            finally:
                ring.decoder.rewind(base)
            return parts.answer(turn)

    def keep(self, wanted: Callable[[Span], bool]) -> list[Span]:
        """Forget pictures and notes that are not wanted; which those were."""
        with self._parts.alone():
            self._mine()
            return self._ring.forget(lambda span: not wanted(span))

    @property
    def remembered(self) -> tuple[Span, ...]:
        """What is remembered, in order of time."""
        return tuple(self._ring.spans)

    @property
    def positions(self) -> int:
        """How much of the cache is filled: never more than its regions."""
        return self._ring.decoder.length

    def _mine(self) -> None:
        ring = self._ring
        if self._parts.context.owner != self._owner or ring.decoder.length != len(ring.ids):
            raise ContractError(
                "this session is over: another question, or a failure, has used the model's cache; "
                "begin a new one"
            )

    def _add(self, rows: Callable[[], Rows], span: Span) -> None:
        """Make room first: rows that carry positions count on from what is left."""
        self._ring.make_room(span)
        self._ring.append(rows(), span)

    def _rows(self, prompt: Prompt, encoded: Encoded) -> Rows:
        builder = self._builder()
        builder.prompt(prompt.texts[0], prompt, [encoded], self._parts.table)
        return builder.rows()

    def _text(self, ids: tuple[int, ...]) -> Rows:
        builder = self._builder()
        builder.text(self._parts.table.rows(ids))
        return builder.rows()

    def _builder(self) -> RowsBuilder:
        return RowsBuilder(self._parts.reader.manifest.language[0], self._ring.decoder.position)


def ring_of(parts: SessionParts, vision: int | None, text: int | None) -> KvRing:
    """The ring of a session: half of the cache for frames, an eighth for notes, unless given.

    Raises:
        ContractError: a decoder from which nothing can be evicted, or budgets that leave no room.
    """
    if isinstance(parts.reader.manifest.language[0], Seq2SeqSpec):
        raise ContractError(
            f"{parts.reader.manifest.name} is an encoder-decoder: it has no session"
        )
    capacity = parts.decoder.capacity
    return KvRing(
        parts.decoder,
        vision=capacity // 2 if vision is None else vision,
        text=capacity // 8 if text is None else text,
    )
