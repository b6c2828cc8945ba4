"""Four streams through everything that goes wrong, in a plan that a seed decides.

``python -m benchmarks.fault_run BUNDLE --seed 1`` gives a network camera (RTSP, served on loopback
by Debian's GStreamer in a child process, behind a proxy that misbehaves), a damaged video file, a
damaged robot's log and a live synthetic source 30 minutes of stream time, by a clock that runs
three and a quarter times as fast as the machine's: under ten minutes. It prints what went wrong,
what became of every frame, and whether each stream ended healthy; exit code 1 if one did not.

They run as those of ``edgevlm run`` do that share a model: each on a thread, one schedule, one
thread that writes. Three models are scripted, so that a failure is one of the runtime's and not of
a model's; the bundle gives tokenizer and prompt. The robot's log is asked about by the bundle
itself, in a process of its own that is killed now and then.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import inputs
from benchmarks.faults.injector import FastClock, Injector, Receiver
from benchmarks.faults.schedule import QUIET, STREAMS, plan
from benchmarks.faults.streams import isolated, run_streams, settings
from benchmarks.faults.verdict import problems
from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.abilities import require
from edgevlm.errors import EdgeVLMError
from edgevlm.event import Event, FaultEvent, SummaryEvent
from tests.runtime.sources.chaos_proxy import ChaosProxy
from tests.runtime.sources.rtsp_servers import gstreamer

SPEED = 3.25
FPS = 2  # of the recorded streams, in stream time
CAMERA_FPS, CAMERA_FRAMES = 10, 1200


@dataclass(slots=True)
class Told:
    """What one stream said, and when in stream time."""

    events: list[Event] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    @property
    def summary(self) -> SummaryEvent:
        """Its last event."""
        assert isinstance(self.events[-1], SummaryEvent)
        return self.events[-1]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run.

    Args:
        told: by stream.
        problems: by stream, those without any left out; of "the run" where it raised.
        faults: how often each kind was injected.
        threads: more than there were before.
        wall_s: it took.
    """

    told: dict[str, Told]
    problems: dict[str, list[str]]
    faults: Counter[str]
    threads: int
    wall_s: float


def run(
    bundle: Bundle,
    seed: int,
    duration_s: float,
    folder: Path,
    require_server: Any,
    *,
    isolate: bool = False,
) -> Outcome:
    """One run of four streams.

    Args:
        bundle: a language model's.
        seed: of the plan and of the damage to the files.
        duration_s: stream time.
        folder: for files and stores.
        require_server: called with the reason where there is no GStreamer RTSP server.
        isolate: one stream's model is the bundle's own, in a process that is killed at times.
    """
    require(bundle.manifest, "ask")
    rng, frames = random.Random(seed), round(duration_s * FPS)
    live = f"synthetic:?fps=5&size=64x36&live=1&frames={10 * round(duration_s)}"
    inputs.damaged_clip(folder / "file.mp4", frames, FPS, rng)
    inputs.damaged_log(folder / "log.mcap", frames, FPS, rng)
    camera = inputs.clip(folder / "camera.mp4", CAMERA_FRAMES, CAMERA_FPS)
    threads, begun = threading.active_count(), time.monotonic()
    with ExitStack() as stack:
        address = stack.enter_context(gstreamer(require_server, camera))
        port = int(address.partition(":")[2].partition("/")[0])
        proxy = stack.enter_context(ChaosProxy(port, seed))
        receiver = Receiver()
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        child = isolated(bundle, stack) if isolate else None
        clock = FastClock(SPEED)
        faults = plan(seed, duration_s, isolate)
        injector = receiver.injector = Injector(faults, clock, proxy)
        if child is not None:
            injector.child = lambda: child.pid
        uris = {
            "rtsp": f"rtsp://127.0.0.1:{proxy.port}/cam",
            "file": str(folder / "file.mp4"),
            "mcap": f"mcap:{folder}/log.mcap?topic={inputs.TOPIC}",
            "synthetic": live,
        }
        told = {name: Told() for name in STREAMS}
        configs = {
            name: settings(name, uris[name], duration_s, folder, receiver) for name in STREAMS
        }
        over = threading.Event()
        faulting = threading.Thread(target=injector.carry_out, args=(over.is_set,), daemon=True)
        faulting.start()
        error: BaseException | None = None
        try:
            for event in run_streams(bundle, configs, folder, injector, clock, child):
                if event.stream in told:
                    told[event.stream].events.append(event)
                    told[event.stream].times_s.append(clock.elapsed_s())
        except EdgeVLMError as exc:
            error = exc
        over.set()
        faulting.join()
    quiet_s = duration_s * (1 - QUIET)
    wrong = {}
    for name, each in told.items():
        found = problems(each.events, each.times_s, folder / f"{name}.db", quiet_s)
        if found:
            wrong[name] = found
    if error is not None:
        wrong["the run"] = [f"it raised {type(error).__name__}: {error}"]
    left = threading.active_count() - threads
    return Outcome(told, wrong, injector.done, left, time.monotonic() - begun)


def report(outcome: Outcome) -> Iterator[str]:
    """The outcome in words, line by line."""
    injected = ", ".join(f"{n} {kind}" for kind, n in sorted(outcome.faults.items()))
    yield f"injected: {injected}"
    yield from outcome.problems.get("the run", [])
    for name, told in outcome.told.items():
        said = Counter(e.code for e in told.events if isinstance(e, FaultEvent))
        faults = ", ".join(f"{n} {code}" for code, n in sorted(said.items())) or "no fault"
        verdict = "; ".join(outcome.problems.get(name, [])) or "healthy"
        yield f"{name}: {told.summary.frames}; told of {faults}; {verdict}"
    yield f"{outcome.threads} threads left; {outcome.wall_s:.0f} s"


def main(words: Sequence[str] | None = None) -> int:
    """Run, print, and say by the exit code whether all is well."""
    parser = argparse.ArgumentParser(prog="benchmarks.fault_run", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0, help="of stream time")
    asked = parser.parse_args(words)

    def no_server(reason: str) -> None:
        sys.exit(f"benchmarks.fault_run: {reason}")

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        bundle = open_bundle(asked.bundle)
        outcome = run(bundle, asked.seed, 60 * asked.minutes, Path(folder), no_server, isolate=True)
        for line in report(outcome):
            sys.stdout.write(line + "\n")
        return 1 if outcome.problems or outcome.threads > 0 else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
