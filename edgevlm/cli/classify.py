"""``edgevlm classify``: which of your labels a picture shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from edgevlm.cli.labels import Label, LabelsFile, Template, labels


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="pictures, or folders of them")
    ],
    label: Label = None,
    labels_file: LabelsFile = None,
    template: Template = None,
    none: Annotated[bool, typer.Option("--none", help='"none of these" is one more label')] = False,
    none_text: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer on 3.10
        typer.Option(metavar="TEXT", help="stands for none of them; again for each"),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="labels shown")] = 3,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one object a picture")] = False,
) -> None:
    """Say which of your labels each picture shows, with probabilities."""
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.cli.pictures import pictures
    from edgevlm.runtime.model.load import load

    names, rows = labels(label or [], labels_file), []
    paths = pictures(images)
    with load(bundle, backend=backend, threads=threads) as model:
        text = model.bundle.manifest.text
        declared = text is not None and text.none is not None and not none_text
        scored = {"none_calibrated": declared} if none or none_text else {}
        for path in paths:
            found = model.classify(str(path), names, template, none=none_text or none)[:top]
            if as_json:
                told = [{"label": name, "probability": round(p, 4)} for name, p in found]
                write_json({"image": str(path), "labels": told, **scored})
            else:
                rows.append([str(path), ", ".join(f"{name} {100 * p:.0f} %" for name, p in found)])
    if not as_json:
        to_stdout().print(table(["picture", "labels"], rows))
