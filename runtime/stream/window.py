"""The last seconds of a stream, as the model gets them beside the newest frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgevlm.answer import Answer, ShownFrame
from edgevlm.config import WindowSection
from edgevlm.runtime.model.fewer_rows import row_count
from edgevlm.runtime.model.frame_packing import Packed, pack
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.model import Model
from edgevlm.tensors import Float32

KEPT_AT_MOST = 32  # frames; of more, the one that differs least from the one before it goes
SEVERAL = 2  # what the encoder is told: a cached frame must not depend on how many are shown
TELLS_APART = 0.01  # a smaller difference in relevance chooses no frame
BUDGET = 2  # times what the newest frame takes, where no budget is set


@dataclass(slots=True)
class _Seen:
    """A frame that was encoded, and until when the scene was as it shows."""

    index: int
    at_s: float
    until_s: float
    encoded: Encoded
    mean: Float32  # of its visual rows, (hidden_size,)
    relevance: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked about a frame.

    Args:
        ask: answers, given how it is to be decoded.
        shown: the frames of a window, oldest first.
        preprocess_ms: already spent on preparing the frame.
        encode_ms: already spent on encoding it.
        prefill_ms: already spent on putting it into the cache.
    """

    ask: Callable[..., Answer]
    shown: tuple[ShownFrame, ...] = ()
    preprocess_ms: float = 0.0
    encode_ms: float = 0.0
    prefill_ms: float = 0.0

    def told(self, answer: Answer) -> Answer:
        """The answer with what was shown, and with all that it cost."""
        spent = answer.timings_ms
        spent = dataclasses.replace(
            spent,
            preprocess=spent.preprocess + self.preprocess_ms,
            encode=spent.encode + self.encode_ms,
            prefill=spent.prefill + self.prefill_ms,
        )
        return dataclasses.replace(answer, window=self.shown, timings_ms=spent)


class Window:
    """Encoded frames of the last seconds; each was encoded once.

    A frame enters when it is asked about. As long as the gate says that the scene has not changed,
    the frame stands for it, so that the window holds the changes and not the repetitions.

    Args:
        section: how long and how much.
        question: frames are chosen with an eye on it, where the bundle can.
        system: system turn; the manifest's own when None.
    """

    def __init__(self, section: WindowSection, question: str, system: str | None = None) -> None:
        self._section = section
        self._system = system
        self._question = question
        self._seen: list[_Seen] = []
        self._shown: list[_Seen] = []  # in the prompt of the last answer
        self._newest: _Seen | None = None  # asked about, and not kept so far
        self._asked: list[_Seen] = []  # shown with it
        self._model: Model | None = None

    def ask(self, model: Model, index: int, encoded: Encoded, now_s: float) -> Asked:
        """Ask about a frame and those before it.

        Args:
            model: another one than before empties the window.
            index: of the newest frame; it is forgotten unless ``keep`` follows.
            encoded: what came of it, as one of ``SEVERAL``.
            now_s: its time.

        Raises:
            BackendError: the engine failed.
            ConfigError: the budget is too small for one frame.
        """
        if model is not self._model:
            self._seen, self._shown, self._model = [], [], model
        self._newest = None
        self._seen = [seen for seen in self._seen if self._inside(seen, now_s)]
        image = model.bundle.manifest.image
        assert image is not None, "it has encoded a frame"
        fits = model.relevance([encoded], self._question)
        newest = _Seen(
            index=index,
            at_s=now_s,
            until_s=now_s,
            encoded=dataclasses.replace(encoded, pixels=(), outputs={}),
            mean=encoded.tokens.mean(axis=0),
            relevance=None if fits is None else fits[0],
        )
        frames = [*self._seen, newest]
        packed = pack(
            [seen.encoded for seen in frames],
            _scores(frames),
            budget=self._section.tokens or BUDGET * row_count(encoded),
            most=self._section.frames,
            spec=image,
        )
        self._newest, self._asked = newest, [frames[part.number] for part in packed]
        parts = list(zip(self._asked, packed, strict=True))
        return Asked(
            partial(
                model.ask,
                messages=_messages(parts, self._question, now_s),
                system=self._system,
            ),
            tuple(_told(seen, part, now_s) for seen, part in parts),
            encoded.preprocess_ms,
            encoded.encode_ms,
        )

    def keep(self) -> None:
        """The answer about the frame last asked about was told."""
        if self._newest is None:
            return
        self._seen.append(self._newest)
        self._shown, self._newest = self._asked, None
        if len(self._seen) > KEPT_AT_MOST:
            del self._seen[int(np.argmin(_changes(self._seen)[:-1]))]

    def stands(self, now_s: float) -> bool:
        """The newest frame's scene is unchanged at ``now_s``; False if frames shown have left."""
        if self._seen:
            self._seen[-1].until_s = now_s
        return all(self._inside(seen, now_s) for seen in self._shown)

    def _inside(self, seen: _Seen, now_s: float) -> bool:
        return now_s - self._section.seconds <= seen.until_s <= now_s


def _scores(frames: Sequence[_Seen]) -> list[float]:
    """What a frame's place in the prompt is worth: by the question, else by its change."""
    fits = [seen.relevance for seen in frames if seen.relevance is not None]
    if len(fits) == len(frames) and max(fits) - min(fits) > TELLS_APART:
        return fits
    return _changes(frames)


def _changes(frames: Sequence[_Seen]) -> list[float]:
    """1 - cosine to the frame before, of mean visual rows; the first to the one behind it."""
    means = np.stack([seen.mean for seen in frames])
    if len(means) == 1:
        return [0.0]
    unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    steps = [float(change) for change in 1.0 - np.sum(unit[1:] * unit[:-1], axis=1)]
    return [steps[0], *steps]


def _messages(
    parts: Sequence[tuple[_Seen, Packed]], question: str, now_s: float
) -> list[Mapping[str, Any]]:
    """One user turn: every frame behind its time, and the question behind them all."""
    content: list[dict[str, Any]] = []
    for number, (seen, part) in enumerate(parts):
        when = _ago(seen, now_s) if number < len(parts) - 1 else "Now"
        content.append({"type": "text", "text": f"\n{when}: " if number else f"{when}: "})
        content.append({"type": "image", "image": part.encoded})
    return [{"role": "user", "content": [*content, {"type": "text", "text": f"\n{question}"}]}]


def _ago(seen: _Seen, now_s: float) -> str:
    stood = ""
    if round(seen.until_s - seen.at_s, 1) > 0:
        stood = f", unchanged until {now_s - seen.until_s:.1f} s ago"
    return f"{now_s - seen.at_s:.1f} s ago{stood}"


def _told(seen: _Seen, part: Packed, now_s: float) -> ShownFrame:
    return ShownFrame(
        frame=seen.index,
        age_s=max(0.0, now_s - seen.at_s),
        stood_s=seen.until_s - seen.at_s,
        tokens=part.rows,
    )
