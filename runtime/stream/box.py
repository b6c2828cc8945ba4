"""Open everything that several streams over one model need, run them, close everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from edgevlm.box import BoxConfig, SharingSection
from edgevlm.bundle.abilities import require
from edgevlm.config import RunConfig
from edgevlm.errors import ConfigError, Overcommitted, SourceError
from edgevlm.event import Event
from edgevlm.frame import FrameSource
from edgevlm.registry import SINKS
from edgevlm.runtime.model.lanes import cache_bytes
from edgevlm.runtime.stream.admission import Admission, admit, gated_hz, measure, measure_gate
from edgevlm.runtime.stream.caps import Capped
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.funnel import Funnel
from edgevlm.runtime.stream.governor import Governor, read_machine
from edgevlm.runtime.stream.many import Item, Line, Stop, merged
from edgevlm.runtime.stream.mode import mode_of
from edgevlm.runtime.stream.model import Kept, Model
from edgevlm.runtime.stream.opening import open_lanes
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.recorder import Recorder
from edgevlm.runtime.stream.schedule import Claim, Schedule
from edgevlm.runtime.stream.sinks import Sink, Sinks, open_sinks
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.token_budget import TokenBudget
from edgevlm.runtime.stream.totals import Totals
from edgevlm.runtime.stream.turns import TurnLease, Turns

LOOK_S = 1.0  # between two looks at the machine
WAITING = 2  # events of each stream before the writer, which bounds the frames that they hold


def run_box(
    config: BoxConfig,
    stopped: Callable[[], bool],
    note: Callable[[str], None],
    root: Path = Path("/"),
) -> Iterator[Event]:
    """The events of all streams, each with its summary, and the summary of them all.

    Args:
        config: of the box.
        stopped: True ends all streams with their summaries.
        note: told in words what the streams cost and whether their rates fit.
        root: of the machine's ``sys`` and ``proc``, for the governor.

    Raises:
        ConfigError, BundleError, ContractError, SourceError, SinkError, BackendError: as ``run``.
        Overcommitted: the promised rates do not fit.
    """
    with ExitStack() as stack:
        configs = {stream.name: config.run_config(stream) for stream in config.streams}
        sources = {name: _source(one, stack) for name, one in configs.items()}
        places = dict.fromkeys([*config.sinks, *(u for s in config.streams for u in s.sinks)])
        _one_picture_each(config, list(places))
        opened = dict(zip(places, stack.enter_context(open_sinks(list(places))), strict=True))
        live = any(source.live for source in sources.values())
        models = dict(
            zip(configs, _models(config, len(configs), live, stack, stopped), strict=True)
        )
        admission = _measured(config, configs, models)
        if admission.refused and not config.overcommit:
            raise Overcommitted(
                f"{admission}; lower min_rate_hz or generation.max_tokens, or run with --overcommit"
            )
        note(str(admission))
        kept = cache_bytes(models[config.streams[0].name].bundle.manifest) / 1e6
        note(f"{len(models)} KV caches of {kept:.1f} MB, one a stream, over weights loaded once")
        capped = Capped()
        stop, funnel = Stop(stopped), Funnel[Item](WAITING * len(configs))
        costs_s = {place.name: place.cost.answer_s for place in admission.places}
        budget = _budget(config, admission)
        schedule = Schedule(_claims(config), costs_s, budget)
        turns = Turns(schedule, stop)
        lines = {}
        for section in config.streams:
            name, one = section.name, configs[section.name]
            line = Line(name, funnel, stop, capped)
            own = [opened[uri] for uri in dict.fromkeys((*config.sinks, *section.sinks))]
            line.sinks = Sinks([*own, *_recorder(one, models[name], sources[name], stack)])
            model = models[name]
            lines[line] = Stream(
                one,
                sources[name],
                model,
                SYSTEM,
                stop,
                watcher=line,
                kept=model if isinstance(model, Kept) else None,
                lease=TurnLease(turns, name, _within_s(section), capped),
            )
            for place in admission.refused:
                if place.name == name:
                    line.say(Notice("overload", str(place)))
        shared = Sinks([opened[uri] for uri in config.sinks])
        govern = _governing(config, capped, list(lines), root)
        yield from merged(lines, funnel, stop, Totals(config.name, SYSTEM, budget), shared, govern)


def _one_picture_each(config: BoxConfig, uris: Sequence[str]) -> None:
    """Refuse a sink that shows frames where it would get those of several streams."""
    for uri in uris:
        scheme = uri.partition(":")[0]
        users = [s.name for s in config.streams if uri in (*config.sinks, *s.sinks)]
        if len(users) > 1 and scheme in SINKS.known() and hasattr(SINKS.resolve(scheme), "seen"):
            raise ConfigError(
                f"{scheme}: shows the frames of one stream and would get those of "
                f"{', '.join(users)}: give each stream its own"
            )


def _source(config: RunConfig, stack: ExitStack) -> FrameSource:
    settings = config.source
    try:
        source = open_source(
            settings.uri,
            realtime=settings.realtime,
            reconnect=settings.reconnect,
            timeout_s=settings.timeout_s,
        )
        stack.callback(source.close)
        mode_of(config, source.live)  # refused before a model is loaded
    except (ConfigError, SourceError) as exc:
        raise type(exc)(f"stream {config.name!r}: {exc}") from exc
    return source


def _models(
    config: BoxConfig, count: int, live: bool, stack: ExitStack, stopped: Callable[[], bool]
) -> Sequence[Model]:
    engine = config.engine
    spin = not live if engine.spin is None else engine.spin
    models = open_lanes(count, config.bundle, engine, config.limits, spin, stopped)
    for model in models:
        stack.callback(model.close)
    require(models[0].bundle.manifest, "ask")
    return models


def appraise(config: BoxConfig) -> Admission:
    """Measure what a box asks of this machine, without its sources and sinks.

    Raises:
        ConfigError, BundleError, ContractError, BackendError: as ``run``.
    """
    with ExitStack() as stack:
        (model,) = _models(config, 1, True, stack, lambda: False)
        configs = {stream.name: config.run_config(stream) for stream in config.streams}
        return _measured(config, configs, dict.fromkeys(configs, model))


def _measured(
    config: BoxConfig, configs: dict[str, RunConfig], models: dict[str, Model]
) -> Admission:
    per_s = None if config.budget is None else config.budget.visual_tokens_per_s
    costs = {name: measure(models[name], one, per_s) for name, one in configs.items()}
    gated = [gated_hz(one) for one in configs.values()]
    return admit(_claims(config), costs, measure_gate(), gated)


def _budget(config: BoxConfig, admission: Admission) -> TokenBudget | None:
    if (given := config.budget) is None:
        return None
    expected = {place.name: place.cost.visual for place in admission.places}
    return TokenBudget(given.visual_tokens_per_s, given.burst_s, expected)


def _claims(config: BoxConfig) -> dict[str, Claim]:
    return {s.name: Claim(s.priority, s.min_rate_hz or 0.0) for s in config.streams}


def _governing(
    config: BoxConfig, capped: Capped, lines: list[Line], root: Path
) -> Callable[[], None]:
    """Looks at the machine every ``LOOK_S`` seconds, and tells the streams what changes."""
    if config.governor is None:
        return lambda: None
    governor, due_s = Governor(config.governor), 0.0

    def look() -> None:
        nonlocal due_s
        now_s = SYSTEM.monotonic_ns() / 1e9
        if now_s < due_s:
            return
        due_s = now_s + LOOK_S
        if (said := governor.look(read_machine(root), now_s)) is not None:
            capped.now = governor.caps
            for line in lines:
                line.say(Notice("throttled", said))

    return look


def _recorder(config: RunConfig, model: Model, source: FrameSource, stack: ExitStack) -> list[Sink]:
    if config.record is None:
        return []
    recorder = Recorder(Path(config.record), config, model.bundle.manifest, source.live)
    return [stack.enter_context(closing(recorder))]


def _within_s(section: SharingSection) -> float | None:
    return section.deadline_s or section.policy.max_age_s
