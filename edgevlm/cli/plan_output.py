"""What ``edgevlm plan`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevlm.cost import CostSheet
    from edgevlm.runtime.device.plan.devices import Device
    from edgevlm.runtime.device.plan.predict import Ask, Prediction
    from edgevlm.runtime.device.plan.search import Choice, Target

SHOWN = 12  # settings that miss the target are not all printed


def predictions(
    sheet: CostSheet, device: Device, ask: Ask, made: Sequence[Prediction], *, as_json: bool
) -> None:
    """One column a precision."""
    from edgevlm.cli.console import table, to_stdout, write_json

    if as_json:
        write_json({**_head(sheet, device, ask), "predictions": [asdict(p) for p in made]})
        return
    console = to_stdout()
    console.print(_title(sheet, device, ask))
    columns = [_figures(p) for p in made]
    rows = [[name, *(c[name] for c in columns)] for name in columns[0]]
    console.print(table(("figure", *(p.precision for p in made)), rows))
    for line in [*_advice(device, made), _trust(device)]:
        console.print(line)


def choices(
    sheet: CostSheet,
    device: Device,
    ask: Ask,
    target: Target,
    found: Sequence[Choice],
    *,
    as_json: bool,
    plot: Path | None,
) -> None:
    """The best setting, the Pareto set, and the plot."""
    from edgevlm.cli.console import table, to_stderr, to_stdout, write_json
    from edgevlm.runtime.device.plan.plot import save_plot
    from edgevlm.runtime.device.plan.search import pareto

    best = pareto(found)
    met = [c for c in found if not c.misses]
    if plot is not None:
        save_plot(plot, f"{sheet.name} on {device.title}", found, best, target)
        to_stderr().print(f"wrote {plot}")
    if as_json:
        write_json(
            {
                **_head(sheet, device, ask),
                "target": asdict(target),
                "best": asdict(met[0]) if met else None,
                "pareto": [asdict(c) for c in best],
            }
        )
        return
    console = to_stdout()
    console.print(_title(sheet, device, ask))
    if met:
        console.print(f"best setting: {_setting(met[0])}")
    else:
        console.print(f"no setting meets the target; nearest: {_setting(found[0])}, which misses "
                      f"{' and '.join(found[0].misses)}")  # fmt: skip
    head = ("precision", "image size", "visual tokens", "context", "ms an answer", "answers/s",
            "MB running", "error by the law", "misses")  # fmt: skip
    rows = [_cells(c) for c in best[:SHOWN]]
    console.print(table(head, rows, f"Pareto set of {len(found)} settings: error, time, memory"))
    console.print(_trust(device))


def errors(as_json: bool) -> None:
    """The planner against published figures."""
    from edgevlm.cli.console import table, to_stdout, write_json
    from edgevlm.runtime.device.plan import published

    found = published.errors()
    medians = {
        name: {"median_error_percent": round(published.median_percent(members), 1),
               "figures": len(members)}
        for name, members in published.groups(found).items()
    }  # fmt: skip
    if as_json:
        rows = [
            {
                "model": e.row.model, "device": e.row.device, "precision": e.row.precision,
                "engine": e.row.engine, "figure": e.metric, "published": e.published,
                "predicted": e.predicted, "error": e.error, "fitted": e.row.fit,
                "source": published.sources()[e.row.source], "note": e.row.note,
            }
            for e in found
        ]  # fmt: skip
        write_json({"errors": rows, "medians": medians})
        return
    console = to_stdout()
    cells = [
        [e.row.model, e.row.device, e.row.precision, e.row.engine, e.metric, f"{e.published:g}",
         f"{e.predicted:.4g}", f"{100 * e.error:+.0f} %", "fitted" if e.row.fit else ""]
        for e in found
    ]  # fmt: skip
    head = ("model", "device", "precision", "engine", "figure", "published", "predicted",
            "error", "")  # fmt: skip
    console.print(table(head, cells))
    for name, one in medians.items():
        console.print(f"{name}: median error {one['median_error_percent']:.0f} % "
                      f"of {one['figures']} figures")  # fmt: skip


def _head(sheet: CostSheet, device: Device, ask: Ask) -> dict[str, Any]:
    return {
        "model": sheet.name,
        "parameters": sheet.parameters,
        "device": device.model_dump(mode="json"),
        "ask": asdict(ask),
    }


def _title(sheet: CostSheet, device: Device, ask: Ask) -> str:
    what = f"{sheet.name}, {sheet.parameters / 1e6:.0f} M parameters, on {device.title}"
    if not sheet.settings:
        return f"{what}: {ask.question_tokens} tokens in, {ask.output_tokens} out"
    text = f"{ask.question_tokens} tokens of text, {ask.output_tokens} out"
    return f"{what}: frames of {ask.width}x{ask.height}, {text}"


def _figures(made: Prediction) -> dict[str, str]:
    memory = made.memory
    figures = {
        "visual tokens": str(made.visual_tokens),
        "prompt tokens": str(made.prompt_tokens),
        "encode, ms": f"{made.encode_ms:.1f}",
        "prefill, ms": f"{made.prefill_ms:.1f}",
        "decode, tokens/s": f"{made.decode_tokens_per_s:.1f}",
        "an answer, ms": f"{made.answer_ms:.0f}",
        "answers/s": f"{made.answers_per_s:.2f}",
        "joules an answer, at most": _or_dash(made.joules_per_answer, ".2f"),
        "weights, MB": f"{memory.weights_mb:.0f}",
        f"cache of {made.context} tokens, MB": f"{memory.cache_mb:.0f}",
        "activations, MB": f"{memory.activations_mb:.0f}",
        "running, MB": f"{memory.run_mb:.0f}",
        "building, MB": f"{memory.build_mb:.0f}" if memory.build_mb else "-",
        "largest piece running, MiB": f"{memory.run_contiguous_mib:.0f}",
        "largest piece building, MiB": f"{memory.build_contiguous_mib:.0f}"
        if memory.build_mb
        else "-",
        "fits": "yes" if made.fits else "no",
    }
    if not made.prompt_tokens:
        dropped = ("prefill", "decode", "cache", "prompt", "visual")
        figures = {k: v for k, v in figures.items() if not k.startswith(dropped)}
    return figures


def _advice(device: Device, made: Sequence[Prediction]) -> list[str]:
    """What to do about a piece that is larger than the device gives in one."""
    limit = device.cma_mib
    over = [p for p in made if limit is not None and p.memory.build_contiguous_mib > limit]
    if not over:
        return []
    memory = over[0].memory
    return [
        f"{memory.largest} may ask for {memory.build_contiguous_mib:.0f} MiB in one piece at build "
        f"and the default device tree gives {limit}: raise cma=, or split it into two products"
    ]


def _trust(device: Device) -> str:
    if device.measured_tflops:
        return "predicted from measured matrix products; edgevlm bench measures the model itself"
    if device.kind == "cpu":
        return "predicted from the data sheet; no published figure was at hand to check it with"
    from edgevlm.runtime.device.plan import published

    held = published.groups(published.errors())["held out"]
    return (
        f"median error {published.median_percent(held):.0f} % of {len(held)} published figures "
        "that nothing was fitted on (edgevlm plan --check)"
    )


def _setting(one: Choice) -> str:
    made = one.prediction
    size = "" if made.image_size is None else f", --image-size {made.image_size}"
    tokens = "" if one.tokens is None else f", --tokens {one.tokens}"
    return (
        f"--precision {made.precision}{size}{tokens}, --max-context {made.context}: "
        f"{made.visual_tokens} visual tokens, {made.answers_per_s:.2f} answers/s, "
        f"{made.memory.run_mb:.0f} MB"
    )


def _cells(one: Choice) -> list[str]:
    made = one.prediction
    size = "own" if made.image_size is None else str(made.image_size)
    return [
        made.precision, size, str(made.visual_tokens), str(made.context), f"{made.answer_ms:.0f}",
        f"{made.answers_per_s:.2f}", f"{made.memory.run_mb:.0f}", f"{one.error:.3f}",
        ", ".join(one.misses) or "-",
    ]  # fmt: skip


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
