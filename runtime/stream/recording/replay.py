"""Ask again about what a recording asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevlm.bundle.abilities import require
from edgevlm.config import RunConfig, make_config
from edgevlm.event import Event
from edgevlm.frame import FrameItem
from edgevlm.runtime.model.load import load
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.format import Header, read_header
from edgevlm.runtime.stream.recording.playback import Playback


class _Past:
    """A source that delivers nothing by itself."""

    def __init__(self, name: str, live: bool) -> None:
        self.name = name
        self.live = live

    def frames(self) -> Iterator[FrameItem]:
        return iter(())

    def close(self) -> None:
        pass


def replay_config(header: Header, changes: Mapping[str, Mapping[str, Any] | Any]) -> RunConfig:
    """The settings of a replay: those of the recording, with ``changes``, without limits.

    Ages and deadlines are left out: they depend on the load of the machine that recorded.

    Args:
        header: of the recording.
        changes: keys of the top level or whole sections to merge, as in ``{"ask": "..."}``.

    Raises:
        ConfigError: what comes out is no configuration.
    """
    raw = header.settings().model_dump(exclude_unset=True, by_alias=True)
    raw.pop("limits", None)
    raw.pop("sinks", None)
    raw.get("policy", {}).pop("max_age_s", None)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            raw[key] = {**raw.get(key, {}), **value}
        else:
            raw[key] = value
    return make_config(raw, "the replay")


def replay(
    folder: Path,
    config: RunConfig,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """The events of the recorded run as the model of ``config`` makes them, the summary last.

    With the recorded bundle and settings they are the recorded events, except for clocks, timings,
    backend, and answers that the load of the machine cut short.

    Args:
        folder: the recording.
        config: of ``replay_config``.
        stopped: asked between frames and between tokens.

    Raises:
        SourceError: the recording is damaged.
        BundleError: no usable bundle.
        ContractError: a bundle without a language model.
        BackendError: no usable backend.
    """
    header = read_header(folder)
    with load(
        config.bundle,
        backend=config.engine.backend,
        threads=config.engine.threads,
        verify=config.engine.verify,
        visual_tokens=config.engine.visual_tokens,
    ) as model:
        require(model.bundle.manifest, "ask")
        source = _Past(config.source.uri, header.live)
        stream = Stream(
            config,
            source,
            model,
            SYSTEM,
            stopped,
            playback=lambda account: Playback(folder, account),
        )
        yield from stream.events()
