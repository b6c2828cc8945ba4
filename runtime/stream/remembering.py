"""The last seconds of a stream in the model's KV cache: every frame goes through it once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from edgevlm.answer import ShownFrame
from edgevlm.config import WindowSection
from edgevlm.errors import ConfigError
from edgevlm.runtime.model.kv_ring import Span
from edgevlm.runtime.model.session import Session
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.window import Asked


@dataclass(slots=True)
class _Remembered:
    """A frame that the cache holds, and until when the scene was as it shows."""

    index: int
    span: Span
    until_s: float
    tokens: int


class Remembering:
    """A window whose frames stay in the cache, and leave it when they are old or there is no room.

    Args:
        section: how long and how much.
        question: asked about what is remembered; it leaves no trace itself.
        system: system turn; the manifest's own when None.
    """

    def __init__(self, section: WindowSection, question: str, system: str | None) -> None:
        self._section = section
        self._question = question
        self._system = system
        self._model: Model | None = None
        self._session: Session | None = None
        self._frames: list[_Remembered] = []
        self._shown: list[_Remembered] = []  # with the last answer

    def ask(self, model: Model, index: int, encoded: Encoded, now_s: float) -> Asked:
        """Remember a frame, forget those that are too old, and ask about what is left.

        Args:
            model: another one than before remembers nothing.
            index: of the newest frame.
            encoded: what came of it, as one of several.
            now_s: its time.

        Raises:
            BackendError: the engine failed.
            ConfigError: the model is another process's.
            ContextOverflow: one frame is larger than what is kept for frames.
            ContractError: a model whose cache cannot forget.
        """
        session = self._of(model)
        self._frames = [one for one in self._frames if self._inside(one, now_s)]
        kept = {id(one.span) for one in self._frames}
        session.keep(lambda span: id(span) in kept)
        begun = time.perf_counter_ns()
        span = session.see(encoded, f"\n{now_s:.1f} s: ", now_s)
        prefill_ms = (time.perf_counter_ns() - begun) / 1e6
        tokens = sum(len(segment.rows) for segment in encoded.segments)
        self._frames.append(_Remembered(index, span, now_s, tokens))
        left = {id(span) for span in session.remembered}
        self._frames = [one for one in self._frames if id(one.span) in left]
        self._shown = list(self._frames)
        return Asked(
            partial(session.ask, f"\n{self._question}"),
            tuple(
                ShownFrame(
                    frame=one.index,
                    age_s=max(0.0, now_s - one.span.at_s),
                    stood_s=one.until_s - one.span.at_s,
                    tokens=one.tokens,
                )
                for one in self._frames
            ),
            encoded.preprocess_ms,
            encoded.encode_ms,
            prefill_ms,
        )

    def keep(self) -> None:
        """The last answer was told; its frame is remembered anyway."""

    def stands(self, now_s: float) -> bool:
        """The newest frame's scene is unchanged at ``now_s``; False if frames shown are too old."""
        if self._frames:
            self._frames[-1].until_s = now_s
        return all(self._inside(one, now_s) for one in self._shown)

    def _inside(self, one: _Remembered, now_s: float) -> bool:
        return now_s - self._section.seconds <= one.until_s <= now_s

    def _of(self, model: Model) -> Session:
        if self._session is None or model is not self._model:
            if not isinstance(model, Vlm):
                raise ConfigError(
                    "window.memory = cache needs the model in this process: leave --isolate out"
                )
            self._session = model.session(self._section.tokens, 0, self._system)
            self._model, self._frames, self._shown = model, [], []
        return self._session
