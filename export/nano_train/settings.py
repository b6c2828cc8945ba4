"""What a training run is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pictures(_Strict):
    """How many training pictures there are."""

    cut_outs: int = Field(default=24000, gt=0, multiple_of=250)
    others: int = Field(default=8000, gt=0, multiple_of=250)
    workers: int = Field(default=2, gt=0, description="processes that compose them")


class First(_Strict):
    """The lesson without the language model."""

    steps: int = Field(default=1450, gt=0)
    batch: int = Field(default=64, gt=0)
    rate: float = Field(default=1e-3, gt=0, description="learning rate at its highest")


class Second(_Strict):
    """The lesson with it."""

    steps: int = Field(default=700, gt=0)
    batch: int = Field(default=6, gt=0, description="pictures")
    imagined: int = Field(default=2, ge=0, description="scenes in words besides")
    questions: int = Field(default=8, gt=0, description="about each")
    rank: int = Field(default=16, gt=0)
    alpha: float = Field(default=32.0, gt=0)
    rate: float = Field(default=4e-4, gt=0, description="of the low-rank corrections")
    connector_rate: float = Field(default=3e-4, gt=0)
    labelled: float = Field(default=0.5, ge=0, le=1, description="share with labels in the prompt")
    words: float = Field(default=0.2, ge=0, description="weight of what tokens are to say")


class Settings(_Strict):
    """All of it; the defaults are the budget of a CPU with two cores."""

    seed: int = 0
    threads: int = Field(default=2, gt=0)
    device: Literal["cpu", "cuda"] = "cpu"
    checked: int = Field(default=96, gt=0, description="pictures asked about at the end")
    pictures: Pictures = Pictures()
    first: First = First()
    second: Second = Second()


def read_settings(path: Path | None) -> Settings:
    """Settings from a TOML file; the defaults without one.

    Raises:
        ConfigError: no such file, or something in it that is not known.
    """
    if path is None:
        return Settings()
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as exc:
        raise ConfigError(f"{path} cannot be used for training: {exc}") from exc
