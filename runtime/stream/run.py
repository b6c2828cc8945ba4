"""Open everything that a stream needs, run it, close everything."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from edgevlm.box import BoxConfig, load_settings
from edgevlm.bundle import Manifest
from edgevlm.bundle.abilities import require
from edgevlm.config import RunConfig
from edgevlm.event import Event, SummaryEvent
from edgevlm.runtime.stream.box import run_box
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.mode import mode_of
from edgevlm.runtime.stream.opening import open_model
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.recorder import Recorder
from edgevlm.runtime.stream.sinks import Sinks, open_sinks
from edgevlm.runtime.stream.sources import open_source

_log = logging.getLogger(__name__)


def run(
    config: RunConfig | BoxConfig | str | os.PathLike[str],
    settings: Sequence[str] = (),
    stopped: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = _log.info,
) -> Iterator[Event]:
    """The events of a stream, the summary last; or of several with one model, see ``run_box``.

    Args:
        config: settings, or the path of a TOML file with them.
        settings: ``key=value`` overrides of the file.
        stopped: asked between frames and between tokens; True ends the run with its summary.
        note: told what several streams cost, in words.

    Raises:
        ConfigError: settings that do not fit; ``Overcommitted``: rates that do not.
        BundleError: no usable bundle.
        ContractError: a bundle without a language model, or without what the task needs.
        BankError: a bank of the task cannot be used.
        SourceError: the source cannot be opened, or failed.
        SinkError: a sink cannot be opened, or lost events.
        BackendError: no usable backend.
    """
    if not isinstance(config, RunConfig | BoxConfig):
        config = load_settings(config, settings)
    if isinstance(config, BoxConfig):
        return run_box(config, stopped, note)
    return _events(config, stopped)


def _events(config: RunConfig, stopped: Callable[[], bool]) -> Iterator[Event]:
    settings = config.source
    opened = open_source(
        settings.uri,
        realtime=settings.realtime,
        reconnect=settings.reconnect,
        timeout_s=settings.timeout_s,
    )
    with (
        closing(opened) as source,
        open_sinks(config.sinks) as opened_sinks,
    ):
        mode_of(config, source.live)  # refused before a model is loaded
        engine = config.engine
        spin = not source.live if engine.spin is None else engine.spin
        model, kept = open_model(
            config.bundle, engine, config.limits, spin, stopped, config.task, config.known
        )
        with closing(kept or model):
            manifest = model.bundle.manifest
            if config.task is None:
                require(manifest, "ask")
            with _recorder(config, manifest, source.live) as recorders:
                sinks = Sinks([*opened_sinks, *recorders])
                stream = Stream(config, source, model, SYSTEM, stopped, watcher=sinks, kept=kept)
                yield from _delivered(stream, sinks)


@contextmanager
def _recorder(config: RunConfig, manifest: Manifest, live: bool) -> Iterator[list[Recorder]]:
    if config.record is None:
        yield []
        return
    with closing(Recorder(Path(config.record), config, manifest, live)) as recorder:
        yield [recorder]


def _delivered(stream: Stream, sinks: Sinks) -> Iterator[Event]:
    """Every event after the sinks have it; what a sink says becomes a fault of the stream.

    Raises:
        SinkError: a sink failed at the summary, behind which no event may come.
    """
    for told in stream.told():
        said = sinks.write(told)
        yield told.event
        if said and isinstance(told.event, SummaryEvent):
            raise said[0]
        for error in said:
            fault = stream.fault(error)
            sinks.write(fault)
            yield fault.event
