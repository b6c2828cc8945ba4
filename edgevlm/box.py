"""Settings of a box: many streams that share one model, from one TOML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from edgevlm.config import (
    EngineSection,
    LimitsSection,
    RunConfig,
    Section,
    StreamSection,
    make_config,
    of_isolation,
    read_toml,
    validated,
)
from edgevlm.errors import ConfigError


class SharingSection(StreamSection):
    """A stream, and its claim on the model.

    ``min_rate_hz`` is a promise: so many answers a second where that many are asked for, whatever
    others want. What is left goes by ``priority``, the higher first, and among equals by when an
    answer is due: ``deadline_s`` after the frame's arrival, or ``policy.max_age_s``.
    """

    priority: int = Field(default=0, ge=-100, le=100)
    min_rate_hz: float | None = Field(default=None, gt=0)
    deadline_s: float | None = Field(default=None, gt=0)


class StepSection(Section):
    """One step of the governor's ladder; what it leaves out stays as at the step before."""

    rate_hz: float | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, ge=1)
    max_side: int | None = Field(default=None, ge=16, description="pixels of the longer side")

    @model_validator(mode="after")
    def _bounds(self) -> StepSection:
        if self.rate_hz is None and self.max_tokens is None and self.max_side is None:
            raise ValueError("a step bounds rate_hz, max_tokens or max_side")
        return self


class GovernorSection(Section):
    """When streams are to do less, and what they do less of.

    A step down when a reading was beyond its mark for ``hold_s``: a thermal zone from ``hot_c`` on,
    load a core from ``busy`` on, ``low_mb`` of free memory or less. A step up when for
    ``recover_s`` every zone was at ``cool_c`` or below, the load below ``margin`` of its mark, and
    free memory above ``low_mb`` divided by it.
    """

    ladder: tuple[StepSection, ...] = Field(min_length=1)
    hot_c: float = Field(default=85.0, gt=0, lt=150)
    cool_c: float = Field(default=75.0, gt=0)
    busy: float | None = Field(default=None, gt=0)
    low_mb: int | None = Field(default=None, ge=1)
    margin: float = Field(default=0.8, gt=0, lt=1)
    hold_s: float = Field(default=5.0, ge=0)
    recover_s: float = Field(default=30.0, ge=0)

    @model_validator(mode="after")
    def _apart(self) -> GovernorSection:
        if self.cool_c >= self.hot_c:
            raise ValueError(f"cool_c {self.cool_c:g} must be below hot_c {self.hot_c:g}")
        return self


class BudgetSection(Section):
    """Visual tokens that all streams together may spend on their prompts.

    ``burst_s``: what is not spent is saved for so many seconds. A stream gets of it what the rules
    of the model's time give it: its promised rate, a part of everybody's tenth, and the rest by
    priority. A scene that stands still takes nothing.
    """

    visual_tokens_per_s: float = Field(gt=0)
    burst_s: float = Field(default=2.0, ge=0)


class BoxConfig(Section):
    """Streams, and what they share.

    ``limits`` hold for each stream; ``sinks`` get the events of all. ``overcommit``: run although
    the promised rates are more than this machine can do.
    """

    name: str = Field(default="all", min_length=1, description="stream of the closing summary")
    bundle: str
    streams: tuple[SharingSection, ...] = Field(min_length=1)
    sinks: tuple[str, ...] = ()
    limits: LimitsSection = LimitsSection()
    engine: EngineSection = EngineSection()
    governor: GovernorSection | None = None
    budget: BudgetSection | None = None
    overcommit: bool = False

    @model_validator(mode="after")
    def _told_apart(self) -> BoxConfig:
        names = [self.name, *(stream.name for stream in self.streams)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two streams are called {twice[0]!r}")
        if self.engine.fallback is not None:
            raise ValueError("engine.fallback is for a single stream: give a backend that is here")
        of_isolation(self.limits, self.engine)
        return self

    def run_config(self, stream: SharingSection) -> RunConfig:
        """The settings of one stream, as it would have them alone."""
        own = {name: getattr(stream, name) for name in StreamSection.model_fields}
        shared = {"bundle": self.bundle, "limits": self.limits, "engine": self.engine}
        return RunConfig.model_validate(own | shared)


def load_settings(
    path: str | os.PathLike[str], settings: Sequence[str] = ()
) -> RunConfig | BoxConfig:
    """Read a TOML file: of a box where it has ``[[streams]]``, else of one stream.

    Args:
        path: the file.
        settings: overrides as in ``load_config``; ``streams.NAME.source.uri=0`` is of one stream.

    Raises:
        ConfigError: as ``load_config``.
    """
    return make_settings(read_toml(path, settings), str(path))


def make_settings(raw: dict[str, Any], name: str = "the options") -> RunConfig | BoxConfig:
    """Validate settings of either kind that are already a mapping.

    Raises:
        ConfigError: as ``load_config``.
    """
    if "streams" not in raw:
        return make_config(raw, name)
    if odd := sorted(raw.keys() & (StreamSection.model_fields.keys() - {"name", "sinks"})):
        raise ConfigError(f"{name}: {odd[0]!r} is of one stream: put it into [[streams]]")
    return validated(BoxConfig, raw, name)
