"""``edgevlm verify``: is this bundle what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    backend: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Option(help="only this one; by default all that are here"),
    ] = None,
    trust_engines: Annotated[
        bool, typer.Option("--trust-engines", help="load engines that this device did not make")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Hash every file of BUNDLE, load its graphs, and measure its parity again."""
    from edgevlm.bundle import open_bundle
    from edgevlm.bundle.build_record import check_engines
    from edgevlm.cli.console import to_stdout, write_json
    from edgevlm.cli.parity_table import parity_table
    from edgevlm.errors import ParityError
    from edgevlm.parity import Certificate
    from edgevlm.runtime.model.certify import certificate, certify
    from edgevlm.runtime.model.load import open_backend

    opened = open_bundle(bundle, verify="always")
    engines = check_engines(opened)
    stored = Certificate.parse(opened.read_text("parity.json"), str(bundle))
    if backend is None:
        measured = certificate(opened).backends
    else:
        measured = (certify(opened, open_backend(backend, trust_engines=trust_engines)),)
    found = Certificate(
        reference=stored.reference, precision=opened.manifest.precision, backends=measured
    )
    if as_json:
        write_json(
            {
                "bundle_id": opened.id,
                "files": len(opened.manifest.files),
                "engines": engines,
                "passed": found.passed,
                "parity": found.model_dump(mode="json"),
            }
        )
    else:
        console = to_stdout()
        among = f", {engines} engines among them" if engines else ""
        console.print(
            f"{len(opened.manifest.files)} files agree with bundle {opened.id[:12]}{among}"
        )
        console.print(parity_table(found))
    if not found.passed:
        raise ParityError(f"{bundle}: parity gates missed: {', '.join(found.misses)}")
