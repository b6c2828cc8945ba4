"""``edgevlm locate``: your things, found again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="pictures, or folders of them")
    ],
    bank: Annotated[
        list[Path], typer.Option(help="from edgevlm teach --thing, or a folder of such; again")
    ],
    small: Annotated[
        bool, typer.Option("--small", help="look closer, for things a tenth of the picture: slower")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer on 3.10
        typer.Option("-o", "--output", metavar="FILE", help="boxes drawn; a folder for several"),
    ] = None,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one object a picture")] = False,
) -> None:
    """Find the things of banks in pictures, and say where there is none."""
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.cli.pictures import pictures, target_of
    from edgevlm.runtime.model.load import load
    from edgevlm.runtime.perception import overlay
    from edgevlm.runtime.perception.locate import locate, picture_of
    from edgevlm.runtime.perception.sentence import things_seen
    from edgevlm.runtime.perception.things import load_things

    paths = pictures(images)
    target = target_of(output, paths)
    rows = []
    with load(bundle, backend=backend, threads=threads) as model:
        things = load_things(bank, model)
        for path in paths:
            picture = picture_of(model, path)
            seen = locate(model, picture, things, small=small)
            if output is not None:
                names = [one.name for one in seen.found]
                overlay.save(overlay.boxed(picture, seen.found, names), target(path))
            said = things_seen(seen.found, (picture.shape[0], picture.shape[1]))
            if as_json:
                write_json(
                    {
                        "image": str(path),
                        "found": [one.told() for one in seen.found],
                        "rejected": [one.told() for one in seen.rejected],
                        "text": said,
                    }
                )
            else:
                best = max((one.score for one in (*seen.found, *seen.rejected)), default=0.0)
                rows.append([str(path), f"{best:.2f}", said])
    if not as_json:
        to_stdout().print(table(["picture", "score", "what was found"], rows))
