"""A stream's question about one frame, within the stream's patience."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.frame import Frame
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.schema import read_schema
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.freshness import Patience
from edgevlm.runtime.stream.gates.base import Gate
from edgevlm.runtime.stream.intake import position_s
from edgevlm.runtime.stream.lease import Lease
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.window import Asked, Window


class Asking:
    """Asks what the config says, and stops asking when the answer is not worth it any more.

    Args:
        config: of the stream.
        gate: says whether a waiting frame shows another scene; None: every one does.
        newest: the newest frame that waits.
        clock: of ages.
        stopped: asked between tokens.
        lease: on the model, which the caller has taken.
        live: whether the source is.
    """

    def __init__(
        self,
        config: RunConfig,
        gate: Gate | None,
        newest: Callable[[], Frame | None],
        clock: Clock,
        stopped: Callable[[], bool],
        lease: Lease,
        live: bool,
    ) -> None:
        self._config = config
        self._schema = read_schema(config.generation.schema_)
        self._drafts = Drafts() if config.generation.draft else False
        self._gate = gate
        self._newest = newest
        self._lease = lease
        self._looked_at = -1
        self._live = live
        self._decided = isinstance(gate, Playback)
        self._window = Window(config.window, config.ask) if config.window else None
        max_age_s = config.policy.max_age_s
        self.patience = Patience(clock, max_age_s, stopped, self._moved_on, lease.pause)

    def ask(self, model: Model, frame: Frame) -> Answer:
        """The answer, or what there is of it when patience ended; gives the model back.

        Raises:
            BackendError: the engine failed.
            ContractError: the question does not fit the model.
            SourceError: the frame's pixels cannot be read.
        """
        settings, patience = self._config.generation, self.patience
        patience.begin(frame)
        try:
            asked = self._asked(model, frame)
            answer = model.ask(
                **asked.arguments,
                system=settings.system,
                schema=self._schema,
                draft=self._drafts,
                max_tokens=self._lease.caps.tokens(settings.max_tokens),
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed,
                cancelled=patience.over,
            )
        finally:
            self._lease.give()
        answer = asked.told(answer)
        if answer.finish_reason == "cancelled" and patience.why == "deadline":
            answer = dataclasses.replace(answer, finish_reason="deadline")
        return answer

    def _asked(self, model: Model, frame: Frame) -> Asked:
        if self._window is None:
            picture = self._lease.caps.fit(frame.pixels.rgb())
            return Asked({"image": picture, "question": self._config.ask})
        return self._window.ask(model, frame, position_s(frame, self._live))

    def stands(self, frame: Frame) -> bool:
        """The scene is unchanged at ``frame``; False if the last answer knew more than there is.

        With a window that is so when a frame that was shown has left it. In a recording it was
        decided.
        """
        if self._window is None:
            return True
        return self._window.stands(position_s(frame, self._live)) or self._decided

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
        return self._gate is None or self._gate.moved_on(newest)
