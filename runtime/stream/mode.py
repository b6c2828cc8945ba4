"""The two promises a stream can make about its frames, and what keeps them."""

from __future__ import annotations

from pathlib import Path

from edgevlm.bundle.cache import cache_folder
from edgevlm.config import RunConfig
from edgevlm.errors import ConfigError
from edgevlm.frame import FrameItem, SourceFault
from edgevlm.runtime.stream.handover import HandOver, Latest
from edgevlm.runtime.stream.spool import Spool


def mode_of(config: RunConfig, live: bool) -> str:
    """``freshest`` or ``every``: what was asked for, or the default of the source's kind.

    Raises:
        ConfigError: a combination that cannot keep its promise.
    """
    mode = config.policy.mode or ("freshest" if live else "every")
    if mode == "freshest" and not live:
        raise ConfigError(
            "--mode freshest needs frames that keep coming: add --realtime to play a file at its "
            "own pace"
        )
    return mode


def hand_over_of(config: RunConfig, live: bool) -> HandOver[FrameItem] | None:
    """What lies between a source's thread and the model; None where the model pulls frames.

    Raises:
        ConfigError: as ``mode_of``, or there is no room for a spool.
    """
    if mode_of(config, live) == "freshest":
        return Latest(keep=is_fault)
    if not live or config.source.realtime:  # a file waits for its reader
        return None
    folder = config.policy.spool_dir
    return Spool(Path(folder) if folder else cache_folder(), config.policy.spool_mb)


def is_fault(item: FrameItem) -> bool:
    """True of what a source reports and what is no frame."""
    return isinstance(item, SourceFault)
