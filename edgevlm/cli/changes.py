"""``edgevlm changes``: what changed since a moment, from the event store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.runtime.stream.store.facts import StreamChanges


def command(
    store: Annotated[Path, typer.Argument(metavar="DB", help="written by --sink sqlite:DB")],
    since: Annotated[
        str, typer.Option(metavar="T", help="2026-01-31T12:00:00Z, or 30s, 15m, 2h, 7d ago")
    ],
    until: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Option(metavar="T", help="the first time that is too late; now"),
    ] = None,
    stream: Annotated[Optional[list[str]], typer.Option(help="only this one")] = None,  # noqa: UP045
    bundle: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--bundle", "-b", help="its model puts the facts into a sentence"),
    ] = None,
    ask: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--ask", "-q", help="asked of the model behind the facts"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="of the model's sentence")] = 64,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    thumbnails: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="write the pictures of changed answers there"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the facts, a stream a line")
    ] = False,
) -> None:
    """Say what changed in every stream since T, and what is not known about it."""
    import dataclasses
    import sys
    import time

    from edgevlm.cli.console import write_json
    from edgevlm.errors import ConfigError
    from edgevlm.runtime.stream.store.changes import changes
    from edgevlm.runtime.stream.store.changes_told import QUESTION, by_model, sentence
    from edgevlm.runtime.stream.store.query import moment_ms

    if ask is not None and bundle is None:
        raise ConfigError("--ask is for a model: give --bundle too")
    begin = moment_ms(since)
    end = round(time.time() * 1000) + 1 if until is None else moment_ms(until)
    found = changes(store, begin, end, stream or ())
    told: dict[str, Any] = {}
    if bundle is not None:
        from edgevlm.runtime.model.load import load

        with load(bundle, backend=backend, threads=threads) as model:
            for one in found:
                told[one.stream] = by_model(model, store, one, ask or QUESTION, max_tokens).text
    for one in found:
        if thumbnails is not None:
            _write_pictures(store, one, thumbnails)
        facts = sentence(one)
        if as_json:
            body = {**dataclasses.asdict(one), "facts": facts, "text": told.get(one.stream)}
            write_json(body)
        else:
            words = told.get(one.stream)
            sys.stdout.write(f"{facts}\n" + (f"{words.strip()}\n" if words is not None else ""))
            sys.stdout.flush()


def _write_pictures(store: Path, found: StreamChanges, folder: Path) -> None:
    from edgevlm.cli.events import write_picture
    from edgevlm.runtime.stream.store.query import find

    shown = [e for change in found.changes for e in (change.before, change.after)]
    wanted = {e.id for e in [*shown, found.before, found.last] if e is not None and e.pictured}
    for event in find(store, streams=[found.stream], kinds=["answer"], thumbnails=True):
        if event.id in wanted:
            write_picture(event, folder)
