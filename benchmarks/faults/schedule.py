"""A seeded plan of what goes wrong when: the same seed gives the same plan."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "cut",  # the camera's connections are reset, new ones refused
    "stall",  # nothing more comes, the connection stays open
    "garbage",  # bytes of the camera's stream are others
    "slow",  # the camera's network passes a few kilobytes a second
    "disk_full",  # the event store's disk takes no more
    "slow_sink",  # every event takes its sink a while
    "receiver_down",  # the webhook answers 503
    "clock_jump",  # the wall clock is set, days ahead or back
    "model_fails",  # the backend raises, once
    "model_hangs",  # a decoder step takes seconds
    "child_killed",  # the process that a model lives in is killed
]
OF_THE_CAMERA: tuple[Kind, ...] = ("cut", "stall", "garbage", "slow")
OF_THE_STREAM: tuple[Kind, ...] = ("disk_full", "slow_sink", "model_fails", "model_hangs")
OF_THE_MODEL: tuple[Kind, ...] = ("model_fails", "model_hangs")
AT_ONCE: tuple[Kind, ...] = ("model_fails", "clock_jump", "child_killed")
OF_ALL: tuple[Kind, ...] = ("receiver_down", "clock_jump")
STREAMS = ("rtsp", "file", "mcap", "synthetic")
ISOLATED = "mcap"  # the stream whose model lives in a process of its own
SPACING_S = 12.0  # between two faults on average, all streams together
LONGEST_S = 20.0
QUIET = 0.25  # the share of the run, at its end, in which nothing more goes wrong


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Args:
        at_s: stream time.
        kind: what.
        stream: which stream has it; "" for all of them.
        lasts_s: stream time until it is well again; 0 for what happens once.
        amount: days of a clock jump, else nothing.
    """

    at_s: float
    kind: Kind
    stream: str
    lasts_s: float
    amount: float = 0.0


def plan(seed: int, duration_s: float, isolate: bool) -> list[Fault]:
    """Faults in order; none begins or lasts in the last ``QUIET`` of the run.

    With ``isolate`` the model of ``ISOLATED`` is not scripted, and its process is killed.

    Every kind comes once before any comes by chance, as far as the time suffices. What needs the
    same thing waits for the one before it: the camera's network has one state at a time.
    """
    rng = random.Random(seed)
    end_s = duration_s * (1 - QUIET)
    first: list[Kind] = [*OF_THE_CAMERA, *OF_THE_STREAM, *OF_ALL]
    if isolate:
        first.append("child_killed")
    kinds = tuple(first)
    rng.shuffle(first)
    spacing_s = min(SPACING_S, end_s / (len(first) + 1))
    longest_s = min(LONGEST_S, end_s / 5)
    faults: list[Fault] = []
    free_s: dict[tuple[str, str], float] = {}
    now_s = spacing_s / 2
    while now_s < end_s:
        kind = first.pop() if first else rng.choice(kinds)
        stream = "" if kind in OF_ALL else "rtsp"
        if kind in OF_THE_STREAM:
            scripted = [s for s in STREAMS if not (isolate and s == ISOLATED)]
            stream = rng.choice(scripted if kind in OF_THE_MODEL else STREAMS)
        elif kind == "child_killed":
            stream = ISOLATED
        busy = stream, "network" if kind in OF_THE_CAMERA else kind
        at_s = max(now_s, free_s.get(busy, 0.0))
        lasts_s = 0.0 if kind in AT_ONCE else rng.uniform(0.3, 1) * longest_s
        if kind == "model_hangs":
            lasts_s = min(lasts_s, 4.0)
        if at_s + lasts_s < end_s:
            days = rng.uniform(-14, 14) if kind == "clock_jump" else 0.0
            faults.append(Fault(at_s, kind, stream, lasts_s, days))
            free_s[busy] = at_s + lasts_s + 2.0
        now_s += spacing_s if first else rng.expovariate(1 / spacing_s)
    return sorted(faults, key=lambda fault: fault.at_s)
