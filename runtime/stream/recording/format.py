"""What a recording is on disk.

::

    recording.json     settings of the run, the bundle it ran, versions
    decisions.jsonl    what became of every frame, one JSON object a line, in order
    events.jsonl       the events of the run
    frames/N.png       the frames that were asked about, without loss; N is the frame's index

A decision is ``answer``, ``reuse`` or ``fail`` of a frame, ``drop`` of so many frames for a reason,
or ``fault`` of the source; the last line, ``gates``, says what the gates did. Frames that were
reused or dropped have no picture: a replay asks again about what was asked about, it does not
decide anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgevlm.config import RunConfig
from edgevlm.errors import SourceError
from edgevlm.event import DropReason, GateTotals
from edgevlm.frame import Clock, SourceFaultCode

VERSION: Literal[1] = 1
HEADER, DECISIONS, EVENTS, FRAMES = "recording.json", "decisions.jsonl", "events.jsonl", "frames"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Header(_Line):
    """``recording.json``."""

    version: Literal[1] = VERSION
    edgevlm: str
    bundle_name: str
    bundle_id: str
    live: bool = Field(description="the source was")
    config: dict[str, Any] = Field(description="of the run; the source's URI without credentials")

    def settings(self) -> RunConfig:
        """The run's settings."""
        return RunConfig.model_validate(self.config)


class Seen(_Line):
    """A frame and what became of it."""

    do: Literal["answer", "reuse", "fail"]
    asks: tuple[int, ...] = Field(
        default=(), description="numbers of the questions asked, where others' answers stood"
    )
    index: int
    size_wh: tuple[int, int]
    captured_ns: int
    monotonic_ns: int
    media_s: float | None
    clock: Clock
    frame_id: str | None = None


class Dropped(_Line):
    """Frames that got no answer."""

    do: Literal["drop"] = "drop"
    reason: DropReason
    count: int = Field(ge=1)


class Reported(_Line):
    """A fault of the source."""

    do: Literal["fault"] = "fault"
    code: SourceFaultCode
    message: str


class Gated(_Line):
    """What the gates did in the whole run."""

    do: Literal["gates"] = "gates"
    gates: tuple[GateTotals, ...]


Decision = Union[Seen, Dropped, Reported, Gated]  # noqa: UP007 - pydantic on 3.10
_DECISIONS: TypeAdapter[Decision] = TypeAdapter(Annotated[Decision, Field(discriminator="do")])


def picture_path(folder: Path, index: int) -> Path:
    """Where the picture of a frame lies."""
    return folder / FRAMES / f"{index:09d}.png"


def read_header(folder: Path) -> Header:
    """The header of a recording.

    Raises:
        SourceError: not a recording, or one of another version.
    """
    path = folder / HEADER
    try:
        header = Header.model_validate_json(path.read_bytes())
        header.settings()
    except OSError as exc:
        raise SourceError(
            f"{folder} is no recording ({HEADER}: {exc.strerror}); edgevlm run --record makes one"
        ) from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SourceError(f"{path} cannot be read: {place}: {first['msg']}") from exc
    return header


def read_decisions(folder: Path) -> Iterator[Decision]:
    """The decisions of a recording; a last line that was never finished is left out.

    Raises:
        SourceError: a line that is no decision.
    """
    for number, line in _whole_lines(folder / DECISIONS):
        try:
            yield _DECISIONS.validate_json(line)
        except ValidationError as exc:
            raise SourceError(
                f"{folder / DECISIONS}, line {number}: {exc.errors()[0]['msg']}"
            ) from exc


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """The recorded events as they were told.

    Raises:
        SourceError: a line that is no JSON object.
    """
    for number, line in _whole_lines(folder / EVENTS):
        try:
            yield dict(json.loads(line))
        except ValueError as exc:
            raise SourceError(f"{folder / EVENTS}, line {number}: {exc}") from exc


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield number, line
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
