"""What this machine can promise: what an answer costs here, and whose rates fit.

A promise is kept for the longest answer that a stream's settings allow, so it counts with all of
``max_tokens``; most answers are shorter, and unchanged scenes cost none. See ``docs/many.md``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgevlm.answer import Answer
from edgevlm.config import RunConfig
from edgevlm.frame import ArrayPixels, UInt8
from edgevlm.runtime.model.schema import read_schema
from edgevlm.runtime.stream.gates.cells import cells_of
from edgevlm.runtime.stream.gates.pixel import PixelGate
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.schedule import EVERYBODY, Claim
from edgevlm.runtime.stream.window import BUDGET

MEASURED = 2
TOKENS = 16  # of a measured answer at most
GATED_WH = (1920, 1080)
GATED_HZ = 30.0  # of a source whose rate nobody has set


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one frame's answers take of the model, in milliseconds.

    Args:
        encode: of a picture, its preparation included.
        prefill: of the prompts behind their constant part.
        token: of one token.
        tokens: of the longest answers, together.
        visual: tokens of the picture.
        visual_s: in which a budget of them comes by so many; 0 without one.
    """

    encode: float
    prefill: float
    token: float
    tokens: int
    visual: int = 0
    visual_s: float = 0.0

    @property
    def answer_s(self) -> float:
        """Seconds of the longest answers, of the model or of the budget, whichever is more."""
        model_s = (self.encode + self.prefill + self.tokens * self.token) / 1e3
        return max(model_s, self.visual_s)

    def __str__(self) -> str:
        return (
            f"{self.answer_s * 1e3:.0f} ms (encode {self.encode:.0f}, prefill {self.prefill:.0f}, "
            f"{self.tokens} tokens of {self.token:.1f}"
            + (
                f"; {self.visual} visual tokens, {self.visual_s * 1e3:.0f} of the budget)"
                if self.visual_s
                else ")"
            )
        )


def measure(model: Model, config: RunConfig, visual_per_s: float | None = None) -> Cost:
    """Ask a stream's questions about drawn pictures; the fastest counts, the first only warms up.

    Args:
        model: of the stream.
        config: of the stream.
        visual_per_s: the budget of visual tokens a second, where there is one.

    Raises:
        ContractError: the question does not fit the model.
        BackendError: the engine failed.
    """
    settings = config.generation
    asked = [(question.text, read_schema(config.schema_of(question))) for question in config.ask]
    found = []
    for seed in range(1 + MEASURED):
        answers = model.ask_many(
            _picture(seed, (640, 360)),
            asked,
            system=settings.system,
            max_tokens=min(settings.max_tokens, TOKENS),
            draft=False,
            together=not settings.draft,  # as the stream asks
        )
        took = [answer.timings_ms for answer in answers]
        said = sum(answer.tokens.output for answer in answers)
        found.append(
            Cost(
                encode=sum(t.preprocess + t.encode for t in took),
                prefill=sum(t.prefill for t in took),
                token=sum(t.decode for t in took) / max(1, said),
                tokens=settings.max_tokens * len(asked),
                visual=(visual := _visual(answers, config)),
                visual_s=visual / visual_per_s if visual_per_s else 0.0,
            )
        )
    return min(found[1:], key=lambda cost: cost.answer_s)


def _visual(answers: Sequence[Answer], config: RunConfig) -> int:
    """Visual tokens of one frame's prompt, with all that a window may show beside it."""
    alone = max(answer.tokens.visual for answer in answers)
    if config.window is None:
        return alone
    return max(alone, config.window.tokens or BUDGET * alone)


def measure_gate() -> float:
    """Milliseconds of the pixel gate for the luma of 1920 x 1080, at best."""
    gate, took = PixelGate(), []
    for luma in [ArrayPixels(_picture(seed, GATED_WH)).luma() for seed in (0, 1)] * MEASURED:
        begun = time.perf_counter_ns()
        gate.judge(cells_of(luma))
        gate.settle(answered=True)
        took.append((time.perf_counter_ns() - begun) / 1e6)
    return min(took[1:])  # the first has nothing to be compared with


def _picture(seed: int, size_wh: tuple[int, int]) -> UInt8:
    width, height = size_wh
    small = np.random.default_rng(seed).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return np.repeat(np.repeat(small, 20, axis=0), 20, axis=1)


@dataclass(frozen=True, slots=True)
class Place:
    """One stream's promised rate, and whether it fits behind those before it.

    Args:
        name: of the stream.
        rate_hz: promised; 0: nothing is.
        cost: of an answer.
        share: of the model that the promise takes.
        total: with those before it.
        fits: whether there is room for it.
    """

    name: str
    rate_hz: float
    cost: Cost
    share: float
    total: float
    fits: bool

    def __str__(self) -> str:
        if not self.rate_hz:
            return f"{self.name}: {self.cost}, no rate promised"
        return (
            f"{self.name}: {self.rate_hz:g} Hz x {self.cost} = {self.share:.0%} of the model, "
            f"{self.total:.0%} in all: {'fits' if self.fits else 'does not fit'}"
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets in.

    Args:
        places: by priority, the highest first.
        room: the share of the model that can be promised.
        gate_ms: of the gate for one frame of 1920 x 1080.
    """

    places: tuple[Place, ...]
    room: float
    gate_ms: float

    @property
    def refused(self) -> tuple[Place, ...]:
        """Those that do not fit."""
        return tuple(place for place in self.places if not place.fits)

    def __str__(self) -> str:
        fit = len(self.places) - len(self.refused)
        lines = "; ".join(map(str, self.places))
        return (
            f"{fit} of {len(self.places)} streams fit ({self.room:.0%} of the model can be "
            f"promised, the gate takes {self.gate_ms:.2f} ms a frame): {lines}"
        )


def admit(
    claims: Mapping[str, Claim],
    costs: Mapping[str, Cost],
    gate_ms: float,
    gated_hz: Sequence[float],
    cores: int | None = None,
) -> Admission:
    """Let streams in by priority while their promised rates fit.

    Args:
        claims: by stream.
        costs: by stream.
        gate_ms: of one frame.
        gated_hz: how many frames a second each stream's gate looks at.
        cores: that gates share with the model; this machine's when None.
    """
    cores = cores or len(os.sched_getaffinity(0))
    busy = min(0.9, sum(gated_hz) * gate_ms / 1e3 / cores)
    room, total, places = (1 - EVERYBODY) * (1 - busy), 0.0, []
    for name in sorted(claims, key=lambda n: -claims[n].priority):
        rate_hz, cost = claims[name].min_rate_hz, costs[name]
        share = rate_hz * cost.answer_s
        fits = total + share <= room or not rate_hz
        places.append(Place(name, rate_hz, cost, share, total + share, fits))
        total += share if fits else 0.0
    return Admission(tuple(places), room, gate_ms)


def gated_hz(config: RunConfig) -> float:
    """How many frames a second the gate of a stream looks at."""
    policy = config.policy
    return (policy.rate_hz or GATED_HZ) if policy.gate else 0.0
