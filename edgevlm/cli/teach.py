"""``edgevlm teach``: a bank from good pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="good pictures, or folders of them")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BANK", help="where the bank goes, an .npz")
    ],
    fixed: Annotated[
        bool, typer.Option("--fixed", help="camera and part stand still: compare place by place")
    ] = False,
    radius: Annotated[
        float, typer.Option(min=0.0, help="with --fixed: patches that they may be off")
    ] = 2.0,
    false_alarms: Annotated[
        float, typer.Option(help="share of good pictures that may be called unlike")
    ] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="replace what is at the target")] = False,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the bank's rule")] = False,
) -> None:
    """Learn from a few good pictures what ``edgevlm anomaly`` is to expect."""
    from edgevlm.cli.console import progress, to_stdout, write_json
    from edgevlm.cli.pictures import pictures
    from edgevlm.errors import BankError
    from edgevlm.runtime.model.load import load
    from edgevlm.runtime.perception.anomaly import teach_normal

    if output.exists() and not force:
        raise BankError(f"{output} is already there: --force replaces it")
    paths = pictures(images)
    with load(bundle, backend=backend, threads=threads) as model, progress("teach") as report:
        done = 0

        def step(what: str) -> None:
            nonlocal done
            done += 1
            report(min(done, 2 * len(paths)), 2 * len(paths), what)

        bank = teach_normal(
            model,
            [str(path) for path in paths],
            fixed=fixed,
            radius=radius,
            false_alarms=false_alarms,
            progress=step,
        )
        bank.save(output)
    rule = bank.rule
    if as_json:
        write_json({"bank": str(output), "patches": len(bank.patches), **rule.model_dump()})
        return
    spread = f"{min(rule.scores):.3f} to {max(rule.scores):.3f}"
    to_stdout().print(
        f"{output}: {rule.pictures} pictures, {len(bank.patches)} patches; their own scores "
        f"{spread}, called unlike over {rule.threshold:.3f} "
        f"({100 * rule.false_alarms:g} % false alarms)",
        markup=False,
    )
