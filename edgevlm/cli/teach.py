"""``edgevlm teach``: a bank from good pictures, or from pictures of one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.runtime.model.vlm import Vlm

RADIUS, FALSE_ALARMS = 2.0, 0.01


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="pictures, or folders of them")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="BANK", help="where the bank goes, an .npz")
    ],
    thing: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Option(metavar="NAME", help="1 to 5 pictures of one thing, for edgevlm locate"),
    ] = None,
    box: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="X,Y,W,H", help="where it is, in pixels: once for every picture"),
    ] = None,
    fixed: Annotated[
        bool, typer.Option("--fixed", help="camera and part stand still: compare place by place")
    ] = False,
    radius: Annotated[
        float, typer.Option(min=0.0, help="with --fixed: patches that they may be off")
    ] = RADIUS,
    false_alarms: Annotated[
        float, typer.Option(help="share of good pictures that may be called unlike")
    ] = FALSE_ALARMS,
    force: Annotated[bool, typer.Option("--force", help="replace what is at the target")] = False,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the bank's rule")] = False,
) -> None:
    """Learn from a few good pictures what is to be expected, or with --thing what to look for."""
    from edgevlm.cli.console import progress
    from edgevlm.cli.pictures import pictures
    from edgevlm.errors import BankError, ConfigError
    from edgevlm.runtime.model.load import load

    if thing is None and box:
        raise ConfigError("--box says where a thing is: name it with --thing")
    if thing is not None and (fixed or radius != RADIUS or false_alarms != FALSE_ALARMS):
        raise ConfigError("--fixed, --radius and --false-alarms are of good pictures, not --thing")
    if output.exists() and not force:
        raise BankError(f"{output} is already there: --force replaces it")
    paths = [str(path) for path in pictures(images)]
    steps = 2 * len(paths) if thing is None else len(paths) + 1
    with load(bundle, backend=backend, threads=threads) as model, progress("teach") as report:
        done = 0

        def step(what: str) -> None:
            nonlocal done
            done += 1
            report(min(done, steps), steps, what)

        if thing is None:
            said, told = _good(model, paths, output, fixed, radius, false_alarms, step)
        else:
            said, told = _thing(model, thing, paths, box or [], output, step)
    _tell(said, told, as_json)


def _good(
    model: Vlm,
    paths: list[str],
    output: Path,
    fixed: bool,
    radius: float,
    false_alarms: float,
    step: Callable[[str], None],
) -> tuple[str, dict[str, Any]]:
    from edgevlm.runtime.perception.anomaly import teach_normal

    bank = teach_normal(
        model, paths, fixed=fixed, radius=radius, false_alarms=false_alarms, progress=step
    )
    bank.save(output)
    rule = bank.rule
    said = (
        f"{output}: {rule.pictures} pictures, {len(bank.patches)} patches; their own scores "
        f"{min(rule.scores):.3f} to {max(rule.scores):.3f}, called unlike over "
        f"{rule.threshold:.3f} ({100 * rule.false_alarms:g} % false alarms)"
    )
    return said, {"bank": str(output), "patches": len(bank.patches), **rule.model_dump()}


def _thing(
    model: Vlm, name: str, paths: list[str], given: list[str], output: Path,
    step: Callable[[str], None],
) -> tuple[str, dict[str, Any]]:  # fmt: skip
    from edgevlm.cli.boxes import boxes
    from edgevlm.runtime.perception.teach_thing import Shot, teach_thing

    where = boxes(given, len(paths))
    shots = [Shot(image=p, box_xyxy=b) for p, b in zip(paths, where, strict=True)]
    thing = teach_thing(model, name, shots, progress=step)
    thing.save(output)
    rule = thing.rule
    shown = "boxes" if rule.boxed else "crops"
    said = (
        f"{output}: {rule.name}, {rule.pictures} {shown}, {len(thing.front)} patches of it; its "
        f"own scores {min(rule.like):.3f} to {max(rule.like):.3f}, found from {rule.threshold:.3f}"
    )
    return said, {"bank": str(output), "patches": len(thing.front), **rule.model_dump()}


def _tell(said: str, told: dict[str, Any], as_json: bool) -> None:
    from edgevlm.cli.console import to_stdout, write_json

    if as_json:
        write_json(told)
    else:
        to_stdout().print(said, markup=False)
