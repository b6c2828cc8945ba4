"""``edgevlm segment``: which of your labels each part of a picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgevlm.cli.labels import Label, LabelsFile, Template, labels


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    image: Annotated[Path, typer.Argument(help="a picture")],
    label: Label = None,
    labels_file: LabelsFile = None,
    template: Template = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="FILE", help="the picture, labels in colours"),
    ] = None,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="shares by label")] = False,
) -> None:
    """Say how much of a picture each of your labels covers, and draw it."""
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.runtime.model.image import load_image
    from edgevlm.runtime.model.load import load
    from edgevlm.runtime.perception import overlay

    names, picture = labels(label or [], labels_file), load_image(image)
    with load(bundle, backend=backend, threads=threads) as model:
        found = model.segment(picture, names, template)
    if output is not None:
        overlay.save(overlay.coloured(picture, found.label_map, names), output)
    shares = sorted(found.shares().items(), key=lambda pair: -pair[1])
    if as_json:
        told = [{"label": name, "share": round(share, 4)} for name, share in shares]
        write_json({"image": str(image), "labels": told})
        return
    rows = [[name, f"{100 * share:.1f} %"] for name, share in shares]
    to_stdout().print(table(["label", "of the picture"], rows))
