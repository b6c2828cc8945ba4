"""The two promises a stream can make about its frames, and which of them a source can keep."""

from __future__ import annotations

from edgevlm.config import RunConfig
from edgevlm.errors import ConfigError


def mode_of(config: RunConfig, live: bool) -> str:
    """``freshest`` or ``every``: what was asked for, or the default of the source's kind.

    Raises:
        ConfigError: a combination that cannot keep its promise.
    """
    mode = config.policy.mode or ("freshest" if live else "every")
    if mode == "every" and live and not config.source.realtime:
        raise ConfigError(
            "--mode every on a live source would lose frames unseen: use --mode freshest"
        )
    if mode == "freshest" and not live:
        raise ConfigError(
            "--mode freshest needs frames that keep coming: add --realtime to play a file at its "
            "own pace"
        )
    return mode
