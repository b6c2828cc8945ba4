"""A stream's questions about one frame, within the stream's patience."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.errors import ConfigError
from edgevlm.frame import Frame
from edgevlm.runtime.model.asking import Choice
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.schema import read_schema
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.freshness import Patience
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.lease import Lease
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.remembering import Remembering
from edgevlm.runtime.stream.window import SEVERAL, Window


@dataclass(frozen=True, slots=True)
class _Question:
    """A question, how it is to be answered, and what its answers taught."""

    text: str
    schema: Mapping[str, Any] | None
    drafts: Drafts


class Asking:
    """Asks what the config says, and stops asking when the answers are not worth it any more.

    Args:
        config: of the stream.
        gates: say whether a waiting frame shows another scene.
        newest: the newest frame that waits.
        clock: of ages.
        stopped: asked between tokens.
        lease: on the model, which the caller has taken.
    """

    def __init__(
        self,
        config: RunConfig,
        gates: Chain | Playback,
        newest: Callable[[], Frame | None],
        clock: Clock,
        stopped: Callable[[], bool],
        lease: Lease,
    ) -> None:
        self._settings = config.generation
        locates = config.task is not None and config.task.kind == "locate"
        self._closer = locates or bool(config.known)
        self._questions = [
            _Question(question.text, read_schema(config.schema_of(question)), Drafts())
            for question in config.ask
        ]
        self._gates = gates
        self._newest = newest
        self._lease = lease
        self._looked_at = -1
        self._decided = isinstance(gates, Playback)
        self._window = _window_of(config, lease)
        max_age_s = config.policy.max_age_s
        self.patience = Patience(clock, max_age_s, stopped, self._moved_on, lease.pause)

    def ask(self, model: Model, view: View, numbers: Sequence[int]) -> list[Answer]:
        """The answers, or what there is of them when patience ended; gives the model back.

        Args:
            model: answers.
            view: the frame.
            numbers: of the questions, in their order in the config; at least one.

        Raises:
            BackendError: the engine failed.
            ContractError: a question does not fit the model.
            SourceError: the frame's pixels cannot be read.
        """
        patience, questions = self.patience, [self._questions[n] for n in numbers]
        patience.begin(view.frame)
        visual: int | None = None  # of an answer that fails on the way
        try:
            if len(questions) == 1:
                answers = [self._one(model, view, *questions)]
            else:
                answers = self._several(model, view, questions)
            visual = max(answer.tokens.visual for answer in answers)  # all share one picture
        finally:
            self._lease.give(visual)
        if patience.why != "deadline":
            return answers
        return [
            dataclasses.replace(answer, finish_reason="deadline")
            if answer.finish_reason == "cancelled"
            else answer
            for answer in answers
        ]

    def _one(self, model: Model, view: View, question: _Question) -> Answer:
        schema, system, choice = question.schema, self._settings.system, self._choice()
        draft = question.drafts if self._settings.draft else False
        picture = self._picture(view)
        if self._window is None:
            answer = model.ask(
                picture, question.text, system=system, schema=schema, draft=draft, **choice
            )
            return in_frame(_with_encoding(answer, view), picture, view)
        shown = model.encode(picture, SEVERAL) if view.encoded is None else view.encoded
        asked = self._window.ask(model, view.frame.index, shown, view.now_s)
        return asked.told(asked.ask(schema=schema, draft=draft, **choice))

    def _several(self, model: Model, view: View, questions: Sequence[_Question]) -> list[Answer]:
        """One after another with drafts, where the weights are loaded once; else side by side."""
        settings = self._settings
        picture = self._picture(view)
        first, *others = model.ask_many(
            picture,
            [(question.text, question.schema) for question in questions],
            system=settings.system,
            draft=[question.drafts for question in questions] if settings.draft else False,
            together=not settings.draft and self._lease.caps.together,
            **self._choice(),
        )
        first = _with_encoding(first, view)
        return [in_frame(answer, picture, view) for answer in (first, *others)]

    def _choice(self) -> Choice:
        settings = self._settings
        return {
            "max_tokens": self._lease.caps.tokens(settings.max_tokens),
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": settings.seed,
            "cancelled": self.patience.over,
        }

    def _picture(self, view: View) -> Any:
        """The frame, encoded if a gate had it encoded and nobody looks closer at its pixels."""
        if view.encoded is not None and not self._closer:
            return view.encoded
        return self._lease.caps.fit(view.frame.pixels.rgb())

    def stands(self, now_s: float) -> bool:
        """The scene is unchanged at ``now_s``; False if the last answer knew more than there is.

        With a window that is so when a frame that was shown has left it. In a recording it was
        decided.
        """
        if self._window is None:
            return True
        return self._window.stands(now_s) or self._decided

    def heard(self) -> None:
        """The last answer is told: what it was asked about may be shown again."""
        if self._window is not None:
            self._window.keep()

    def _moved_on(self, frame: Frame) -> bool:
        """True if a newer frame waits that shows another scene than ``frame``."""
        newest = self._newest()
        if newest is None or newest.index in (frame.index, self._looked_at):
            return False
        self._looked_at = newest.index  # once a frame: between tokens time is short
        return self._gates.moved_on(newest)


def in_frame(answer: Answer, picture: Any, view: View) -> Answer:
    """The answer, its boxes in pixels of the frame where a smaller one was shown."""
    if not answer.boxes_xyxy:
        return answer
    height, width = picture.source if isinstance(picture, Encoded) else picture.shape[:2]
    wide, tall = view.frame.pixels.size_wh
    x, y = wide / width, tall / height
    boxes = tuple((a * x, b * y, c * x, d * y) for a, b, c, d in answer.boxes_xyxy)
    return dataclasses.replace(answer, boxes_xyxy=boxes)


def _with_encoding(answer: Answer, view: View) -> Answer:
    """The answer with what a gate has spent on encoding the frame."""
    if (encoded := view.encoded) is None:
        return answer
    took = answer.timings_ms
    took = dataclasses.replace(
        took,
        preprocess=took.preprocess + encoded.preprocess_ms,
        encode=took.encode + encoded.encode_ms,
    )
    return dataclasses.replace(answer, timings_ms=took)


def _window_of(config: RunConfig, lease: Lease) -> Window | Remembering | None:
    """What a stream shows besides its newest frame.

    Raises:
        ConfigError: the cache is to remember frames, and other streams use it too.
    """
    section, system = config.window, config.generation.system
    if section is None:
        return None
    question = config.ask[0].text  # there is no other: the config has been asked
    if section.memory == "frames":
        return Window(section, question, system)
    if lease.shared:
        raise ConfigError("window.memory = cache is for one stream: the model has one cache")
    return Remembering(section, question, system)
