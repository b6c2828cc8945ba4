"""A model of another process, asked as if it were this one's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Unpack

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.bundle import Bundle
from edgevlm.bundle.provenance import ParitySummary
from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.model.asking import (
    Asking,
    Choice,
    ChoiceOfOne,
    Question,
    asking_of,
    drafts_of_many,
    questions_of,
)
from edgevlm.runtime.model.decode import never
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.messages import conversation, replaced
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.one_caller import OneCaller
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.isolation.exchange import Make
from edgevlm.runtime.stream.isolation.messages import (
    Answered,
    Ask,
    AskMany,
    Encode,
    EncodeText,
    Relevance,
)
from edgevlm.runtime.stream.isolation.process import ModelProcess
from edgevlm.runtime.stream.isolation.trees import packed, unpacked
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True)
class _Backend:
    name: str


class Isolated:
    """A model of a process: ``Model`` and ``Kept`` of a stream.

    A call blocks for ``limits.start_s`` and a few seconds at most while there is no child, then for
    ``limits.step_s`` between two signs of life and ``limits.answer_s`` altogether. A child that
    does not keep to that, dies, or says something that is no message is replaced: that call raises
    a ``BackendError``, the next one is answered by another child, which knows nothing of the last.

    Args:
        process: closed with this, and with it all its lanes.
        lane: number of the lane.
    """

    def __init__(self, process: ModelProcess, lane: int = 0) -> None:
        self.process = process
        self._lane = lane
        self._caller = OneCaller()
        self._backend = _Backend(process.ready.backend)

    @property
    def bundle(self) -> Bundle:
        """As this process opened it."""
        return self.process.bundle

    @property
    def backend(self) -> _Backend:
        """What runs the graphs over there."""
        return self._backend

    @property
    def parity(self) -> ParitySummary | None:
        """The certificate of those graphs."""
        return self.process.ready.parity

    @property
    def missed(self) -> Missed | None:
        """The backend in whose place this one answers."""
        return self.process.ready.missed

    @property
    def model(self) -> Isolated:
        """This one."""
        return self

    def poll(self) -> Iterator[BackendError | Notice]:
        """Look how the child is; see ``Kept``."""
        return self.process.poll()

    def ask(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        **choice: Unpack[ChoiceOfOne],
    ) -> Answer:
        """As ``Vlm.ask``; ``cancelled`` is also asked while another child is waited for.

        Raises:
            EdgeVLMError: as ``Vlm.ask``.
            BackendError: the child is lost; see the class.
            BackendGone: too many were.
        """
        arrays: list[Array] = []
        pictures: list[Any] = []

        def shown(picture: Any) -> int:
            pictures.append(packed(self._picture(picture), arrays))
            return len(pictures) - 1

        turns = replaced(conversation(image, question, messages, system), shown)
        asking = asking_of(**choice)
        (answer,) = self._answers(
            lambda number, places: Ask(
                number=number,
                lane=self._lane,
                messages=turns,
                pictures=pictures,
                arrays=places,
                schema_=None if asking.schema is None else dict(asking.schema),
                drafts=asking.drafts,
                deadline_ns=asking.budget.deadline_ns,
                **_choosing(asking),
            ),
            arrays,
            [asking],
        )
        return answer

    def ask_many(
        self,
        image: Any,
        questions: Sequence[str | Question],
        *,
        system: str | None = None,
        draft: Sequence[Drafts] | bool = True,
        together: bool = True,
        **choice: Unpack[Choice],
    ) -> list[Answer]:
        """As ``Vlm.ask_many``; errors as ``ask``."""
        arrays: list[Array] = []
        images = image if isinstance(image, list | tuple) else [image]
        pictures = [packed(self._picture(i), arrays) for i in images if i is not None]
        asked = questions_of(questions)
        each = zip(asked, drafts_of_many(draft, len(asked)), strict=True)
        asking = [asking_of(schema=s, draft=own or False, **choice) for (_, s), own in each]
        drafts = [one.drafts for one in asking if one.drafts is not None]
        return self._answers(
            lambda number, places: AskMany(
                number=number,
                lane=self._lane,
                pictures=pictures,
                arrays=places,
                questions=[
                    (text, None if one.schema is None else dict(one.schema))
                    for (text, _), one in zip(asked, asking, strict=True)
                ],
                system=system,
                drafts=drafts or None,
                together=together,
                **_choosing(asking[0]),
            ),
            arrays,
            asking,
        )

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """As ``Vlm.encode``; errors as ``ask``."""
        arrays: list[Array] = []
        pictures = [packed(self._picture(image), arrays)]
        found = self._given(
            lambda number, places: Encode(
                number=number,
                lane=self._lane,
                pictures=pictures,
                arrays=places,
                among=among,
            ),
            arrays,
        )
        if not isinstance(found, Encoded):
            raise self.process.strange("something else than a picture encoded")
        return found

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """As ``Vlm.relevance``; errors as ``ask``."""
        arrays: list[Array] = []
        pictures = [packed(self._picture(frame), arrays) for frame in frames]
        found = self._given(
            lambda number, places: Relevance(
                number=number,
                lane=self._lane,
                pictures=pictures,
                arrays=places,
                question=question,
            ),
            arrays,
        )
        if found is None:
            return None
        if not isinstance(found, tuple) or not all(isinstance(one, float) for one in found):
            raise self.process.strange("something else than figures")
        return list(found)

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """As ``Vlm.encode_text``; errors as ``ask``."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ContractError(f"texts must be a list of texts, got {texts!r:.200}")
        found = self._given(
            lambda number, _: EncodeText(number=number, lane=self._lane, texts=list(texts)), []
        )
        if not isinstance(found, np.ndarray) or found.dtype != np.float32:
            raise self.process.strange("something else than embeddings")
        return found

    def _picture(self, given: Any) -> Any:
        if isinstance(given, Encoded):
            return given
        image = self.bundle.manifest.image
        return load_image(given, image.alpha if image else "drop")

    def _answers(
        self, make: Make, arrays: Sequence[Array], asking: Sequence[Asking]
    ) -> list[Answer]:
        with self._caller.alone():
            found = self.process.ask(make, arrays, asking[0].budget.cancelled)
        if found is None:
            return [_cut_short(self._backend.name)] * len(asking)
        said, _ = found
        learning = [one.drafts for one in asking if one.drafts is not None]
        learnt = said.drafts or [] if isinstance(said, Answered) else []
        if (
            not isinstance(said, Answered)
            or len(said.answers) != len(asking)
            or len(learnt) != len(learning)
        ):
            raise self.process.strange("something else than answers")
        for drafts, more in zip(learning, learnt, strict=True):
            drafts.become(more)
        return said.answers

    def _given(self, make: Make, arrays: Sequence[Array]) -> Any:
        with self._caller.alone():
            found = self.process.ask(make, arrays, never)
        if found is None or isinstance(found[0], Answered):
            raise self.process.strange("something else than arrays")
        try:
            return unpacked(found[0].tree, found[1])
        except ContractError as exc:
            raise self.process.strange(str(exc)) from exc

    def close(self) -> None:
        """End the process. Legal in every state, from any thread, any number of times."""
        self._caller.close()
        self.process.close()


def _choosing(asking: Asking) -> dict[str, Any]:
    """The settings that every kind of question has."""
    return {"max_tokens": asking.budget.max_tokens, **dataclasses.asdict(asking.sampling)}


def _cut_short(backend: str) -> Answer:
    """Of a question that was given up before there was a child to ask."""
    return Answer(
        text="",
        token_ids=(),
        finish_reason="cancelled",
        timings_ms=Timing(),
        tokens=TokenCounts(),
        backend=backend,
    )
