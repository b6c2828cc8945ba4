"""``edgevlm doctor``: what works on this machine, and how to mend what does not."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> int:
    """Check Python, engines, CUDA and TensorRT, memory, power, video and cameras.

    Exit 1 if something fails without which nothing runs.
    """
    import dataclasses

    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.runtime.device.doctor import examine

    findings = examine()
    if as_json:
        write_json([dataclasses.asdict(f) for f in findings])
    else:
        rows = [[f.verdict, f.what, f.found, f.remedy] for f in findings]
        to_stdout().print(table(("", "what", "found", "remedy"), rows))
    return 1 if any(f.verdict == "fail" and f.needed for f in findings) else 0
