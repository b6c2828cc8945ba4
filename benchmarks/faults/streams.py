"""The four streams: their settings, and how they run over one model's schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.faults.injector import FastClock, Injector, Receiver, TriedSink
from benchmarks.faults.schedule import ISOLATED
from edgevlm.bundle import Bundle
from edgevlm.config import EngineSection, LimitsSection, RunConfig, make_config
from edgevlm.event import Event
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.funnel import Funnel
from edgevlm.runtime.stream.isolation.process import ModelProcess
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.many import Item, Line, Stop, merged
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.schedule import Claim, Schedule
from edgevlm.runtime.stream.sinks import Sinks, open_sinks
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.totals import Totals
from edgevlm.runtime.stream.turns import TurnLease, Turns

TIMEOUT_S = 1.0  # of the camera, real
ANSWER_S = 0.05  # what the schedule takes an answer to cost before it knows


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


def isolated(bundle: Bundle, stack: ExitStack) -> ModelProcess:
    """The bundle in a process of its own, closed with the stack."""
    engine = EngineSection(threads=1, isolate=True)
    child = ModelProcess(str(bundle.root), engine, LimitsSection())
    stack.callback(child.close)
    return child


def run_streams(
    bundle: Bundle,
    configs: Mapping[str, RunConfig],
    folder: Path,
    injector: Injector,
    clock: FastClock,
    child: ModelProcess | None,
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
            model: Model = stack.enter_context(closing(Vlm(bundle, backend)))
            kept = None
            if child is not None and name == ISOLATED:
                model = kept = Isolated(child)
            tried = TriedSink(folder / f"{name}.db", name, injector, clock)
            stack.callback(tried.close)
            line = Line(name, funnel, stop)
            line.sinks = Sinks([tried, *stack.enter_context(open_sinks(config.sinks))])
            lease = TurnLease(turns, name, config.policy.max_age_s)
            lines[line] = Stream(
                config, source, model, clock, stop, watcher=line, kept=kept, lease=lease
            )
        yield from merged(lines, funnel, stop, Totals("all", clock), Sinks([]))
