"""Four streams through everything that goes wrong, in a plan that a seed decides.

``python -m benchmarks.fault_run BUNDLE --seed 1`` gives a network camera (RTSP, served on loopback
by Debian's GStreamer in a child process, behind a proxy that misbehaves), a damaged video file, a
damaged robot's log and a live synthetic source 30 minutes of stream time, by a clock that runs
three and a quarter times as fast as the machine's: under ten minutes. It prints what went wrong,
what became of every frame, and whether each stream ended healthy; exit code 1 if one did not.

They run as those of ``edgevlm run`` do that share a model: each on a thread, one schedule, one
thread that writes. The backend is scripted, so that a failure is one of the runtime's and not of a
model's; the bundle gives tokenizer and prompt.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import inputs
from benchmarks.faults.injector import FastClock, Injector, Receiver, TriedSink
from benchmarks.faults.schedule import QUIET, STREAMS, plan
from benchmarks.faults.verdict import problems
from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.abilities import require
from edgevlm.config import RunConfig, make_config
from edgevlm.errors import EdgeVLMError
from edgevlm.event import Event, FaultEvent, SummaryEvent
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.funnel import Funnel
from edgevlm.runtime.stream.many import Item, Line, Stop, merged
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.schedule import Claim, Schedule
from edgevlm.runtime.stream.sinks import Sinks, open_sinks
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.totals import Totals
from edgevlm.runtime.stream.turns import TurnLease, Turns
from tests.runtime.sources.chaos_proxy import ChaosProxy
from tests.runtime.sources.rtsp_servers import gstreamer

SPEED = 3.25
FPS = 2  # of the recorded streams, in stream time
CAMERA_FPS, CAMERA_FRAMES = 10, 1200
TIMEOUT_S = 1.0  # of the camera, real
ANSWER_S = 0.05  # what the schedule takes an answer to cost before it knows


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


def settings(name: str, uri: str, duration_s: float, folder: Path, receiver: Receiver) -> RunConfig:
    """Of one stream: the camera is freshest, the log loses nothing."""
    live = name in ("rtsp", "synthetic")
    policy: dict[str, Any] = {"rate_hz": 2.0, "reuse_every_s": 2.0}
    policy["mode"] = "every" if name in ("mcap", "synthetic") else "freshest"
    if name == "rtsp":
        policy["max_age_s"] = 30.0
    if name == "synthetic":
        policy |= {"spool_mb": 1, "spool_dir": str(folder / "spool")}
    hook = f"http://127.0.0.1:{receiver.server_address[1]}/#timeout=2&outbox={folder}/{name}.outbox"
    raw = {
        "name": name,
        "bundle": "-",
        "ask": "What is it?",
        "source": {"uri": uri, "realtime": not live, "timeout_s": TIMEOUT_S},
        "policy": policy,
        "limits": {"duration_s": duration_s},
        "rules": [{"name": "calm", "when": ["finish_reason = stop"], "for_s": 1}],
        "sinks": [hook, f"jsonl:{folder}/{name}.jsonl"] if name in ("rtsp", "mcap") else [],
    }
    return make_config(raw)


def run(bundle: Bundle, seed: int, duration_s: float, folder: Path, require_server: Any) -> Outcome:
    """One run of four streams.

    Args:
        bundle: a language model's.
        seed: of the plan and of the damage to the files.
        duration_s: stream time.
        folder: for files and stores.
        require_server: called with the reason where there is no GStreamer RTSP server.
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
        clock = FastClock(SPEED)
        injector = receiver.injector = Injector(plan(seed, duration_s), clock, proxy)
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
            for event in _events(bundle, configs, folder, injector, clock):
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


def _events(
    bundle: Bundle,
    configs: Mapping[str, RunConfig],
    folder: Path,
    injector: Injector,
    clock: FastClock,
) -> Iterator[Event]:
    """All streams over one schedule, as ``edgevlm run`` runs them, on the hurried clock."""
    assert bundle.manifest.prompt is not None
    words = (28120, bundle.manifest.prompt.stop_token_ids[0])
    stop, funnel = Stop(lambda: False), Funnel[Item](2 * len(configs))
    schedule = Schedule({name: Claim() for name in configs}, dict.fromkeys(configs, ANSWER_S))
    turns = Turns(schedule, stop, clock)
    lines: dict[Line, Stream] = {}
    with ExitStack() as stack:
        for name, config in configs.items():
            backend = ScriptedBackend(bundle.manifest, words, injector.before_step(name))
            source = open_source(
                config.source.uri,
                realtime=config.source.realtime,
                timeout_s=config.source.timeout_s,
                clock=clock,
            )
            stack.callback(source.close)
            model = stack.enter_context(closing(Vlm(bundle, backend)))
            tried = TriedSink(folder / f"{name}.db", name, injector, clock)
            stack.callback(tried.close)
            line = Line(name, funnel, stop)
            line.sinks = Sinks([tried, *stack.enter_context(open_sinks(config.sinks))])
            lease = TurnLease(turns, name, config.policy.max_age_s)
            lines[line] = Stream(config, source, model, clock, stop, watcher=line, lease=lease)
        yield from merged(lines, funnel, stop, Totals("all", clock), Sinks([]))


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
        outcome = run(bundle, asked.seed, 60 * asked.minutes, Path(folder), no_server)
        for line in report(outcome):
            sys.stdout.write(line + "\n")
        return 1 if outcome.problems or outcome.threads > 0 else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
