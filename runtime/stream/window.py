"""The last seconds of a stream, as the model gets them beside the newest frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgevlm.answer import Answer, ShownFrame
from edgevlm.config import WindowSection
from edgevlm.frame import Frame
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
        arguments: of ``Model.ask``, that say what is asked.
        shown: the frames of a window, oldest first.
        preprocess_ms: already spent on preparing the frame.
        encode_ms: already spent on encoding it.
    """

    arguments: Mapping[str, Any]
    shown: tuple[ShownFrame, ...] = ()
    preprocess_ms: float = 0.0
    encode_ms: float = 0.0

    def told(self, answer: Answer) -> Answer:
        """The answer with what was shown, and with all that it cost."""
        spent = answer.timings_ms
        spent = dataclasses.replace(
            spent,
            preprocess=spent.preprocess + self.preprocess_ms,
            encode=spent.encode + self.encode_ms,
        )
        return dataclasses.replace(answer, window=self.shown, timings_ms=spent)


class Window:
    """Encoded frames of the last seconds; each was encoded once.

    A frame enters when it is asked about. As long as the gate says that the scene has not changed,
    the frame stands for it, so that the window holds the changes and not the repetitions.

    Args:
        section: how long and how much.
        question: frames are chosen with an eye on it, where the bundle can.
    """

    def __init__(self, section: WindowSection, question: str) -> None:
        self._section = section
        self._question = question
        self._seen: list[_Seen] = []
        self._shown: list[_Seen] = []  # in the prompt of the last answer
        self._before: list[_Seen] = []  # in the one before it
        self._fresh = False  # the newest frame may be taken back
        self._model: Model | None = None

    def ask(self, model: Model, frame: Frame, now_s: float) -> Asked:
        """Encode a frame, keep what came of it, and ask about it and those before it.

        Args:
            model: encodes; another one than before empties the window.
            frame: the newest.
            now_s: its time.

        Raises:
            BackendError: the engine failed.
            ConfigError: the budget is too small for one frame.
            SourceError: the frame's pixels cannot be read.
        """
        encoded = self._see(model, frame, now_s)
        messages, shown = self._prompt(model)
        return Asked({"messages": messages}, shown, encoded.preprocess_ms, encoded.encode_ms)

    def _see(self, model: Model, frame: Frame, now_s: float) -> Encoded:
        if model is not self._model:
            self._seen, self._shown, self._model = [], [], model
        self._fresh = False
        self._forget(now_s)
        encoded = model.encode(frame.pixels.rgb(), SEVERAL)
        fits = model.relevance([encoded], self._question)
        slim = dataclasses.replace(encoded, pixels=(), outputs={})
        self._seen.append(
            _Seen(
                index=frame.index,
                at_s=now_s,
                until_s=now_s,
                encoded=slim,
                mean=encoded.tokens.mean(axis=0),
                relevance=None if fits is None else fits[0],
            )
        )
        self._before, self._fresh = self._shown, True
        return encoded

    def _prompt(self, model: Model) -> tuple[list[Mapping[str, Any]], tuple[ShownFrame, ...]]:
        """The question with the frames that are shown, oldest first, and which those are."""
        image = model.bundle.manifest.image
        assert image is not None, "it has encoded a frame"
        frames = [seen.encoded for seen in self._seen]
        budget = self._section.tokens or BUDGET * row_count(frames[-1])
        packed = pack(frames, self._scores(), budget=budget, most=self._section.frames, spec=image)
        now_s = self._seen[-1].at_s
        self._shown = [self._seen[part.number] for part in packed]
        return self._messages(packed, now_s), tuple(self._told(p, now_s) for p in packed)

    def stands(self, now_s: float) -> bool:
        """The newest frame's scene is unchanged at ``now_s``; False if frames shown have left."""
        if self._seen:
            self._seen[-1].until_s = now_s
        return all(self._inside(seen, now_s) for seen in self._shown)

    def take_back(self) -> None:
        """Nobody will hear of the frame last seen: it leaves."""
        if self._fresh:
            self._seen.pop()
            self._shown, self._fresh = self._before, False

    def _inside(self, seen: _Seen, now_s: float) -> bool:
        return now_s - self._section.seconds <= seen.until_s <= now_s

    def _forget(self, now_s: float) -> None:
        self._seen = [seen for seen in self._seen if self._inside(seen, now_s)]
        while len(self._seen) >= KEPT_AT_MOST:
            changes = self._changes()
            del self._seen[int(np.argmin(changes[:-1]))]

    def _scores(self) -> list[float]:
        """What a frame's place in the prompt is worth: by the question, else by its change."""
        fits = [seen.relevance for seen in self._seen]
        known = [value for value in fits if value is not None]
        if len(known) == len(fits) and max(known) - min(known) > TELLS_APART:
            return known
        return self._changes()

    def _changes(self) -> list[float]:
        """1 - cosine to the frame before, of mean visual rows; the first to the one behind it."""
        means = np.stack([seen.mean for seen in self._seen])
        if len(means) == 1:
            return [0.0]
        unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        steps = [float(change) for change in 1.0 - np.sum(unit[1:] * unit[:-1], axis=1)]
        return [steps[0], *steps]

    def _messages(self, packed: Sequence[Packed], now_s: float) -> list[Mapping[str, Any]]:
        parts: list[dict[str, Any]] = []
        for part in packed:
            parts.append({"type": "text", "text": self._caption(self._seen[part.number], now_s)})
            parts.append({"type": "image", "image": part.encoded})
        parts.append({"type": "text", "text": f"\n{self._question}"})
        return [{"role": "user", "content": parts}]

    def _caption(self, seen: _Seen, now_s: float) -> str:
        if seen is self._seen[-1]:
            return "\nNow: " if len(self._shown) > 1 else "Now: "
        begin = "" if seen is self._shown[0] else "\n"
        stood = ""
        if round(seen.until_s - seen.at_s, 1) > 0:
            stood = f", unchanged until {now_s - seen.until_s:.1f} s ago"
        return f"{begin}{now_s - seen.at_s:.1f} s ago{stood}: "

    def _told(self, part: Packed, now_s: float) -> ShownFrame:
        seen = self._seen[part.number]
        return ShownFrame(
            frame=seen.index,
            age_s=max(0.0, now_s - seen.at_s),
            stood_s=seen.until_s - seen.at_s,
            tokens=part.rows,
        )
