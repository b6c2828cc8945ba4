"""``edgevlm export``: a checkpoint becomes a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer


def command(
    source: Annotated[
        str, typer.Argument(help="nano, a checkpoint, a folder of ONNX graphs, or a .gguf file")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="bundle folder, or X.evlm")],
    precision: Annotated[
        Optional[Literal["fp32", "fp16", "int8", "int4"]],  # noqa: UP045 - typer on 3.10
        typer.Option(help="of the decoder; default int4 for nano, fp32 otherwise"),
    ] = None,
    tokens: Annotated[Optional[int], typer.Option(help="visual tokens a picture")] = None,  # noqa: UP045
    compressor: Annotated[Optional[str], typer.Option(help="NAME[:k=v,...]")] = None,  # noqa: UP045
    image_size: Annotated[Optional[int], typer.Option(help="pixels")] = None,  # noqa: UP045
    max_context: Annotated[Optional[int], typer.Option(help="tokens in the KV cache")] = None,  # noqa: UP045
    adapter: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder of a peft LoRA adapter to merge"),
    ] = None,
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="nano: folder of trained heads and adapter in place of its own"),
    ] = None,
    check_images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder of pictures whose parity is measured too"),
    ] = None,
    reference: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="checkpoint that imported graphs are compared with"),
    ] = None,
    layout: Annotated[
        Literal["bundle", "hf"], typer.Option(help="hf: a folder of graphs as onnx-community has")
    ] = "bundle",
    group: Annotated[
        int, typer.Option(help="weights that share a scale in int4: 32, 64 or 128")
    ] = 32,
    repair_budget: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="how much a graph below its gates may grow to keep them; 0: no repair",
        ),
    ] = 0.25,
    resume: Annotated[
        bool, typer.Option("--resume", help="keep finished stages, and take an earlier try's")
    ] = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="write it even below a parity gate")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Export SOURCE to a bundle and print its parity certificate."""
    from edgevlm.cli.console import progress, to_stderr, write_json
    from edgevlm.cli.parity_table import parity_table, repairs
    from edgevlm.cli.terminate import end_by_exception
    from edgevlm.export.model_parts import ExportOptions
    from edgevlm.export.pipeline import export

    end_by_exception()
    options = ExportOptions(
        precision=precision,
        tokens=tokens,
        compressor=compressor,
        image_size=image_size,
        max_context=max_context,
        adapter=adapter,
        weights=weights,
        check_images=check_images,
        reference=reference,
        layout=layout,
        group=group,
        repair_budget=repair_budget,
        resume=resume,
        allow_drift=allow_drift,
        force=force,
    )
    with progress(f"export {source}") as report:
        done = export(source, output, options, report)
    console = to_stderr()
    notes = {} if done.manifest is None else repairs(done.manifest)
    console.print(parity_table(done.certificate, notes))
    bundle_id = done.manifest.bundle_id if done.manifest is not None else None
    what = f"bundle {bundle_id[:12]}" if bundle_id else "graphs in the layout of onnx-community"
    console.print(f"{output}: {done.size / 1e6:.1f} MB, {what}")
    if as_json:
        write_json(
            {
                "bundle": str(output),
                "bundle_id": bundle_id,
                "bytes": done.size,
                "parity": done.certificate.model_dump(mode="json"),
                "repairs": notes,
            }
        )
