"""``edgevlm verify``: is this bundle what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Hash every file of BUNDLE, load its graphs, and measure its parity again."""
    from edgevlm.bundle import open_bundle
    from edgevlm.cli.console import to_stdout, write_json
    from edgevlm.cli.parity_table import parity_table
    from edgevlm.errors import ParityError
    from edgevlm.parity import Certificate
    from edgevlm.runtime.model.certify import certify
    from edgevlm.runtime.model.load import open_backend

    opened = open_bundle(bundle, verify="always")
    stored = Certificate.parse(opened.read_text("parity.json"), str(bundle))
    measured = certify(opened, open_backend(backend))
    found = Certificate(
        reference=stored.reference, precision=opened.manifest.precision, backends=(measured,)
    )
    if as_json:
        write_json(
            {
                "bundle_id": opened.id,
                "files": len(opened.manifest.files),
                "passed": found.passed,
                "parity": found.model_dump(mode="json"),
            }
        )
    else:
        console = to_stdout()
        console.print(f"{len(opened.manifest.files)} files agree with bundle {opened.id[:12]}")
        console.print(parity_table(found))
    if not found.passed:
        raise ParityError(f"{bundle}: parity gates missed: {', '.join(measured.misses)}")
