"""``edgevlm events``: what the event store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.runtime.stream.store.query import StoredEvent


def command(
    store: Annotated[Path, typer.Argument(metavar="DB", help="written by --sink sqlite:DB")],
    since: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Option(metavar="T", help="2026-01-31T12:00:00Z, or 30s, 15m, 2h, 7d ago"),
    ] = None,
    until: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="T", help="the first time that is too late, as --since"),
    ] = None,
    where: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="FIELD OP VALUE", help="as in 'text ~ cat'; several must all hold"),
    ] = None,
    stream: Annotated[Optional[list[str]], typer.Option(help="only this one")] = None,  # noqa: UP045
    kind: Annotated[Optional[list[str]], typer.Option(help="only this kind")] = None,  # noqa: UP045
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="the newest so many"),
    ] = None,
    thumbnails: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="write the events' pictures there"),
    ] = None,
) -> None:
    """Print stored events, one JSON object a line, oldest first; each with its id in the store."""
    from edgevlm.cli.console import write_json
    from edgevlm.conditions import Condition
    from edgevlm.runtime.stream.store.query import find, moment_ms

    found = find(
        store,
        since_ms=None if since is None else moment_ms(since),
        until_ms=None if until is None else moment_ms(until),
        streams=stream or (),
        kinds=kind or (),
        where=[Condition.parse(text) for text in where or ()],
        limit=limit,
        thumbnails=thumbnails is not None,
    )
    for event in found:
        write_json({"id": event.id, **event.body})
        if thumbnails is not None:
            write_picture(event, thumbnails)


def write_picture(event: StoredEvent, folder: Path) -> None:
    """Write an event's picture, where it has one, under the event's id."""
    if event.thumbnail is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{event.id.replace('/', '-')}.jpg").write_bytes(event.thumbnail)
