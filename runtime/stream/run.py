"""Open everything that a stream needs, run it, close everything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from edgevlm.bundle.abilities import require
from edgevlm.config import RunConfig, load_config
from edgevlm.event import Event
from edgevlm.runtime.model.load import load
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.pipeline import Stream, mode_of
from edgevlm.runtime.stream.sources import open_source


def run(
    config: RunConfig | str | os.PathLike[str],
    settings: Sequence[str] = (),
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """The events of a stream, the summary last.

    Args:
        config: settings, or the path of a TOML file with them.
        settings: ``key=value`` overrides of the file.
        stopped: asked between frames and between tokens; True ends the run with its summary.

    Raises:
        ConfigError: settings that do not fit.
        BundleError: no usable bundle.
        ContractError: a bundle without a language model.
        SourceError: the source cannot be opened, or failed.
        BackendError: no usable backend.
    """
    if not isinstance(config, RunConfig):
        config = load_config(config, settings)
    return _events(config, stopped)


def _events(config: RunConfig, stopped: Callable[[], bool]) -> Iterator[Event]:
    with closing(open_source(config.source.uri, realtime=config.source.realtime)) as source:
        mode_of(config, source.live)  # refused before a model is loaded
        spin = config.engine.spin
        with load(
            config.bundle,
            backend=config.engine.backend,
            threads=config.engine.threads,
            spin=not source.live if spin is None else spin,
            verify=config.engine.verify,
        ) as model:
            require(model.bundle.manifest, "ask")
            yield from Stream(config, source, model, SYSTEM, stopped).events()
