"""``edgevlm list``: what this installation knows."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Kind = Literal["families", "compressors", "backends", "sources", "sinks"]


def command(
    kind: Annotated[Kind, typer.Argument(help="what to list")],
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """List families, compressors, backends, sources or sinks, with what each needs."""
    from edgevlm import registry
    from edgevlm.cli.console import table, to_stdout, write_json

    known = {
        "families": registry.FAMILIES,
        "compressors": registry.COMPRESSORS,
        "backends": registry.BACKENDS,
        "sources": registry.SOURCES,
        "sinks": registry.SINKS,
    }[kind].known()
    if as_json:
        write_json([{"name": n, "summary": e.summary, "needs": e.needs} for n, e in known.items()])
        return
    rows = [[n, e.summary, e.needs] for n, e in known.items()]
    to_stdout().print(table(("name", "what", "needs"), rows))
