"""``edgevlm build``: engines for a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from edgevlm.export.engines.build import Built


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder")],
    target: Annotated[
        str,
        typer.Option(
            help="trt-rtx:sm86|sm89|sm120 (ahead of time, no GPU needed), trt (this machine's "
            "TensorRT), ort-trt (ONNX Runtime's TensorRT provider)"
        ),
    ],
    precision: Annotated[
        Optional[Literal["fp32", "fp16", "bf16", "int8", "int4"]],  # noqa: UP045 - typer on 3.10
        typer.Option(help="default: what the target can keep of the bundle's, else fp16"),
    ] = None,
    workspace_mb: Annotated[
        int, typer.Option(min=1, help="scratch memory that one kernel may ask for")
    ] = 1024,
    level: Annotated[
        int, typer.Option(min=0, max=5, help="optimisation level; 2 on boards of 8 GB")
    ] = 3,
    measure: Annotated[
        bool, typer.Option(help="run the lowered graphs on the CPU: what lowering them costs")
    ] = True,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="keep engines of graphs below a parity gate")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace the target's engines")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compile the graphs of BUNDLE for --target and put the engines into it."""
    from edgevlm.cli.console import progress, to_stderr, write_json
    from edgevlm.cli.engine_table import lowered_table
    from edgevlm.cli.terminate import end_by_exception
    from edgevlm.export.engines.build import BuildOptions, build
    from edgevlm.export.engines.target import parse_target

    end_by_exception()
    options = BuildOptions(
        precision=precision,
        workspace_mib=workspace_mb,
        level=level,
        force=force,
        measure=measure,
        allow_drift=allow_drift,
    )
    with progress(f"build {target}") as report:
        done = build(bundle, parse_target(target), options, report)
    console = to_stderr()
    console.print(_table(target, done))
    made = done.manifest.engines[target]
    if (lowered := lowered_table(target, made, done.manifest.precision)) is not None:
        console.print(lowered)
    elif measure:
        console.print("what the lowering costs is not measured: no kernels for it here")
    for graph, entry in made.graphs.items():
        for note in entry.notes:
            console.print(f"{graph}: {note}")
    if as_json:
        write_json(
            {
                "bundle": str(bundle),
                "bundle_id": done.manifest.bundle_id,
                "target": target,
                **made.model_dump(mode="json"),
                "compiled": {n: c.model_dump(mode="json") for n, c in done.compiled.items()},
            }
        )


def _table(target: str, done: Built) -> Table:
    from edgevlm.cli.console import table

    rows = []
    for graph, entry in done.manifest.engines[target].graphs.items():
        compiled, file = done.compiled[graph], done.manifest.files[entry.file]
        rows.append(
            [graph, entry.file, f"{file.size / 1e6:.1f}", entry.key.precision, entry.key.lowering,
             f"{compiled.seconds:.1f}", str(compiled.peak_mib)]
        )  # fmt: skip
    here = done.platform
    title = f"{here.library} {here.version}, sm{here.sm}, {here.device or 'ahead of time'}"
    columns = ("graph", "engine", "MB", "precision", "lowering", "built in s", "peak MiB")
    return table(columns, rows, title)
