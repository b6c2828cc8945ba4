"""``edgevlm anomaly``: pictures held against a bank of good ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="pictures, or folders of them")
    ],
    bank: Annotated[Path, typer.Option(help="from edgevlm teach")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-o", "--output", metavar="FILE", help="heat map and boxes; a folder for several"
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one object a picture")] = False,
) -> None:
    """Say how unlike the good pictures of a bank each picture is, and where."""
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.cli.pictures import pictures, target_of
    from edgevlm.runtime.model.image import load_image
    from edgevlm.runtime.model.load import load
    from edgevlm.runtime.perception import overlay
    from edgevlm.runtime.perception.anomaly import NormalBank, anomaly
    from edgevlm.runtime.perception.sentence import sentence

    paths = pictures(images)
    target = target_of(output, paths)
    rows = []
    with load(bundle, backend=backend, threads=threads) as model:
        good = NormalBank.load(bank, model)
        for path in paths:
            picture = load_image(path)
            found = anomaly(model, picture, good)
            if output is not None:
                overlay.save(overlay.heat(picture, found), target(path))
            boxes = [[round(edge, 1) for edge in r.box_xyxy] for r in found.regions]
            if as_json:
                write_json(
                    {
                        "image": str(path),
                        "unlike": found.unlike,
                        "score": round(found.score, 4),
                        "threshold": round(found.threshold, 4),
                        "boxes_xyxy": boxes,
                        "box_scores": [round(r.score, 4) for r in found.regions],
                        "text": sentence(found, good),
                    }
                )
            else:
                rows.append([str(path), f"{found.score:.3f}", sentence(found, good)])
    if not as_json:
        to_stdout().print(table(["picture", "score", "what was found"], rows))
