"""``edgevlm list``: what this installation knows."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Kind = Literal["families", "compressors", "backends", "sources", "sinks", "devices"]


def command(
    kind: Annotated[Kind, typer.Argument(help="what to list")],
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """List families, compressors, backends, sources, sinks or devices, with what each needs."""
    if kind == "devices":
        _devices(as_json)
        return
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


def _devices(as_json: bool) -> None:
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.runtime.device.plan.devices import THIS, known, sources

    devices, where = known(), sources()
    if as_json:
        write_json(
            {
                "devices": [{"name": n, **d.model_dump(mode="json")} for n, d in devices.items()],
                "sources": where,
            }
        )
        return
    rows = [
        [name, d.title, f"{d.tensor_tflops or d.vector_tflops:g}", f"{d.bandwidth_gb_s:g}",
         f"{d.usable_gb:g} of {d.memory_gb:g}", "-" if d.power_w is None else f"{d.power_w:g}",
         ", ".join(sorted({key for keys in d.source.values() for key in keys.split(", ")}))]
        for name, d in devices.items()
    ]  # fmt: skip
    rows.append([THIS, "this machine, measured in about ten seconds", "", "", "", "", "measured"])
    head = ("name", "device", "TFLOPS", "GB/s", "GB for a model", "W", "source")
    console = to_stdout()
    console.print(table(head, rows))
    for key, text in where.items():
        console.print(f"{key}: {text}")
