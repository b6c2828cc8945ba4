"""``edgevlm pack``: one archive for a board without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the archive, a .tar")],
    python: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Option(help="the board's Python: 3.10 on JetPack 6, 3.12 on 7; default this one's"),
    ] = None,
    arch: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the board's: aarch64 or x86_64; default this machine's"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Put BUNDLE, wheels for a board, licences and checksums into one archive."""
    from edgevlm.cli.console import progress, to_stderr, write_json
    from edgevlm.cli.terminate import end_by_exception
    from edgevlm.pack.board import Board
    from edgevlm.pack.pack import pack

    end_by_exception()
    board = Board.here(python, arch)
    with progress(f"pack {bundle}") as report:
        done = pack(bundle, output, board, force, report)
    console = to_stderr()
    console.print(
        f"{output}: {done.size / 1e6:.1f} MB, bundle {done.bundle_id[:12]}, {len(done.wheels)} "
        f"wheels for {board.arch}, Python {board.python}"
    )
    for line in done.system:
        console.print(f"the board needs besides: {line}")
    console.print(f"on the board: tar xf {output.name} && sh edgevlm-*/install.sh")
    if as_json:
        write_json(
            {
                "archive": str(output),
                "bytes": done.size,
                "bundle_id": done.bundle_id,
                "python": board.python,
                "arch": board.arch,
                "wheels": {wheel.name: wheel.version for wheel in done.wheels},
                "system": done.system,
            }
        )
