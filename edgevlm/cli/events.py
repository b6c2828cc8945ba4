"""``edgevlm events``: what the event store holds."""

from __future__ import annotations

from collections.abc import Iterable
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
        typer.Option(min=1, help="the newest so many; with --like the best, 10 if not given"),
    ] = None,
    like: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TEXT", help="only frames that look like it, the best first"),
    ] = None,
    like_image: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="only frames that look like this picture"),
    ] = None,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--bundle", "-b", help="of --like; where it lay during the run if not given"),
    ] = None,
    thumbnails: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="write the events' pictures there"),
    ] = None,
    sheet: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="PNG", help="their pictures on one sheet"),
    ] = None,
) -> None:
    """Print stored events, one JSON object a line, oldest first; each with its id in the store."""
    from edgevlm.cli.console import to_stderr, write_json
    from edgevlm.conditions import Condition
    from edgevlm.runtime.stream.store.query import Selection, find, moment_ms
    from edgevlm.runtime.stream.store.sheet import Sheet

    if like is not None and like_image is not None:
        raise typer.BadParameter("give --like or --like-image")
    if bundle is not None and like is None and like_image is None:
        raise typer.BadParameter("--bundle goes with --like or --like-image")
    since_ms = None if since is None else moment_ms(since)
    until_ms = None if until is None else moment_ms(until)
    conditions = [Condition.parse(text) for text in where or ()]
    pictures = thumbnails is not None or sheet is not None
    found: Iterable[tuple[StoredEvent, float | None]]
    if like is None and like_image is None:
        events = find(
            store, since_ms=since_ms, until_ms=until_ms, streams=stream or (), kinds=kind or (),
            where=conditions, limit=limit, thumbnails=pictures,
        )  # fmt: skip
        found = ((event, None) for event in events)
    else:
        from edgevlm.runtime.stream.store.similar import find_similar

        selected = Selection(since_ms, until_ms, stream or (), kind or (), conditions)
        found = find_similar(
            store, selected, text=like, image=like_image, bundle=bundle, limit=limit,
            thumbnails=pictures,
        )  # fmt: skip
    drawn = Sheet()
    for event, similarity in found:
        extra = {} if similarity is None else {"similarity": round(similarity, 4)}
        write_json({"id": event.id, **extra, **event.body})
        if event.thumbnail is None:
            continue
        if sheet is not None:
            drawn.add(event, similarity)
        if thumbnails is not None:
            write_picture(event, thumbnails)
    if sheet is not None:
        drawn.picture().save(sheet, "PNG")
        said = f"{drawn.shown} of {drawn.given} pictures are on {sheet}"
        to_stderr().print(said, markup=False)


def write_picture(event: StoredEvent, folder: Path) -> None:
    """Write an event's picture, where it has one, under the event's id."""
    if event.thumbnail is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{event.id.replace('/', '-')}.jpg").write_bytes(event.thumbnail)
