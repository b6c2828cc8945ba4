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
    found = [{"name": n, "summary": e.summary, "needs": e.needs} for n, e in known.items()]
    columns = ["name", "what", "needs"]
    if kind == "backends":
        columns.append("here")
        for row in found:
            row["here"] = _here(row["name"])
    if as_json:
        write_json(found)
        return
    to_stdout().print(table(columns, [list(row.values()) for row in found]))


def _here(backend: str) -> str:
    """``yes``, or why it cannot be used on this machine."""
    from edgevlm.errors import BackendUnavailable
    from edgevlm.runtime.model.load import open_backend

    try:
        open_backend(backend)
    except BackendUnavailable as exc:
        return str(exc)
    return "yes"
