"""``edgevlm ask``: one answer."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.runtime.model.vlm import Vlm
    from edgevlm.runtime.perception.knowing import Look


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    words: Annotated[
        list[str], typer.Argument(metavar="IMAGE... QUESTION", help="pictures, then the question")
    ],
    schema: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="JSON Schema that the answer follows"),
    ] = None,
    known: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="FILE", help="a bank of teach --thing, or a folder of them; again"),
    ] = None,
    zoom: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="X,Y,W,H|NAME", help="answer on this part, or on a known thing"),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="look closer for known things: slower")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="of the answer")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: Annotated[Optional[int], typer.Option(help="of the sampling")] = None,  # noqa: UP045
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    verify: Annotated[
        Literal["always", "once", "size"], typer.Option(help="which files are hashed first")
    ] = "once",
    fallback: Annotated[
        Optional[Literal["ort-cpu", "ort-cuda"]],  # noqa: UP045
        typer.Option(help="answers where --backend cannot"),
    ] = None,
    visual_tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="of a picture, one of the bundle's budgets; see: edgevlm inspect"),
    ] = None,
    trust_engines: Annotated[
        bool, typer.Option("--trust-engines", help="load engines that this device did not make")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole answer")] = False,
) -> None:
    """Ask BUNDLE a question about one or more pictures, or none."""
    from edgevlm.cli.console import to_stderr, write_json
    from edgevlm.errors import ConfigError
    from edgevlm.runtime.model.load import load

    *images, question = words
    with load(
        bundle,
        backend=backend,
        threads=threads,
        verify=verify,
        trust_engines=trust_engines,
        fallback=fallback,
        visual_tokens=visual_tokens,
    ) as model:
        if model.missed is not None:
            said = f"{backend} is not used, {fallback} answers: {model.missed.reason}"
            to_stderr().print(said, markup=False)
        shown: list[Any] = [*images]
        look = None
        if known or zoom is not None:
            look = _look(model, shown, question, known or [], zoom, small)
            shown, question = [*look.images], look.question
        elif small:
            raise ConfigError("--small is of known things: --known FILE")
        if as_json:
            answer = model.ask(
                shown,
                question,
                schema=schema,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
            )
            fields = ["text", "token_ids", "answer", "confidence", "finish_reason",
                      "timings_ms", "tokens", "backend"]  # fmt: skip
            fields += [] if schema is None else ["field_confidence", "calibrated"]
            whole = dataclasses.asdict(answer)
            told = {name: whole[name] for name in fields}
            if look is not None:
                told["known"] = [[one.told() for one in found] for found in look.found]
                told["zoomed"] = look.zoomed
            write_json(told)
            return
        pieces = model.stream(
            shown,
            question,
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


def _look(
    model: Vlm, images: list[Any], question: str, known: list[Path], zoom: str | None, small: bool
) -> Look:
    """A look at the pictures before the question is asked."""
    from edgevlm.cli.boxes import box
    from edgevlm.runtime.perception.knowing import look_first
    from edgevlm.runtime.perception.things import load_things

    part = box(zoom, "--zoom") if zoom is not None and zoom.count(",") == 3 else zoom
    things = load_things(known, model) if known else []
    return look_first(model, images, question, things, zoom=part, small=small)
