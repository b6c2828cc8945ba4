"""A stream's question about one frame, within the stream's patience."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.errors import ConfigError
from edgevlm.frame import Frame
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.schema import read_schema
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.freshness import Patience
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.lease import Lease
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.remembering import Remembering
from edgevlm.runtime.stream.window import SEVERAL, Asked, Window


class Asking:
    """Asks what the config says, and stops asking when the answer is not worth it any more.

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
        self._config = config
        self._schema = read_schema(config.generation.schema_)
        self._drafts = Drafts() if config.generation.draft else False
        self._gates = gates
        self._newest = newest
        self._lease = lease
        self._looked_at = -1
        self._decided = isinstance(gates, Playback)
        self._window = _window_of(config, lease)
        max_age_s = config.policy.max_age_s
        self.patience = Patience(clock, max_age_s, stopped, self._moved_on, lease.pause)

    def ask(self, model: Model, view: View) -> Answer:
        """The answer, or what there is of it when patience ended; gives the model back.

        Raises:
            BackendError: the engine failed.
            ContractError: the question does not fit the model.
            SourceError: the frame's pixels cannot be read.
        """
        settings, patience = self._config.generation, self.patience
        patience.begin(view.frame)
        try:
            asked = self._asked(model, view)
            answer = asked.ask(
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

    def _asked(self, model: Model, view: View) -> Asked:
        encoded, config = view.encoded, self._config
        picture = self._lease.caps.fit(view.frame.pixels.rgb()) if encoded is None else encoded
        if self._window is not None:
            shown = model.encode(picture, SEVERAL) if encoded is None else encoded
            return self._window.ask(model, view.frame.index, shown, view.now_s)
        ask = partial(model.ask, picture, config.ask, system=config.generation.system)
        if encoded is None:
            return Asked(ask)
        return Asked(ask, (), encoded.preprocess_ms, encoded.encode_ms)

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


def _window_of(config: RunConfig, lease: Lease) -> Window | Remembering | None:
    """What a stream shows besides its newest frame.

    Raises:
        ConfigError: the cache is to remember frames, and other streams use it too.
    """
    section, system = config.window, config.generation.system
    if section is None:
        return None
    if section.memory == "frames":
        return Window(section, config.ask, system)
    if lease.shared:
        raise ConfigError("window.memory = cache is for one stream: the model has one cache")
    return Remembering(section, config.ask, system)
