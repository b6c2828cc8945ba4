"""``edgevlm plan``: will it fit, how fast will it be, and which setting meets a target."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.cost import CostSheet
    from edgevlm.runtime.device.plan.devices import Device

SIZES = (128, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024)  # tried in a search
TOKENS = (1, 4, 9, 16, 49)


def command(
    target: Annotated[
        Optional[str],  # noqa: UP045 - typer on 3.10
        typer.Argument(help="a bundle, nano, a checkpoint folder, a .gguf file, or a box.toml"),
    ] = None,
    device: Annotated[str, typer.Option(help="see: edgevlm list devices; this: measure")] = "this",
    precision: Annotated[
        Optional[Literal["fp32", "fp16", "int8", "int4"]],  # noqa: UP045
        typer.Option(help="default: the bundle's, or all of a checkpoint's"),
    ] = None,
    fps: Annotated[Optional[float], typer.Option(min=1e-3, help="answers a second")] = None,  # noqa: UP045
    memory_mb: Annotated[Optional[float], typer.Option(min=1.0, help="while it runs")] = None,  # noqa: UP045
    reading: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="share of tasks that read text")
    ] = 0.0,
    frame: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the camera")] = "1280x720",
    question_tokens: Annotated[int, typer.Option(min=1, help="text around the picture")] = 32,
    output_tokens: Annotated[int, typer.Option(min=1, help="of an answer")] = 16,
    context: Annotated[Optional[int], typer.Option(min=1, help="tokens of the cache")] = None,  # noqa: UP045
    image_size: Annotated[Optional[int], typer.Option(help="as in export")] = None,  # noqa: UP045
    tokens: Annotated[Optional[int], typer.Option(help="as in export")] = None,  # noqa: UP045
    threads: Annotated[int, typer.Option(min=0, help="for this; 0: physical cores")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="print the error against published figures")
    ] = False,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="plot of the settings, such as plot.png"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> int:
    """Predict time and memory of TARGET on a device; with --fps or --memory-mb, find a setting.

    Of a TOML file with several streams it measures, here, whether their promised rates fit.
    """
    from edgevlm.cli import plan_output as show
    from edgevlm.errors import ConfigError
    from edgevlm.runtime.device.plan.predict import Ask, precisions, predict
    from edgevlm.runtime.device.plan.search import Target, search

    if check:
        show.errors(as_json)
        return 0
    if target is None:
        raise ConfigError("plan what? name a bundle or a checkpoint, or ask for --check")
    if target.endswith(".toml"):
        return _box(target, device, as_json)
    width, height = _frame(frame)
    ask = Ask(
        width=width, height=height, question_tokens=question_tokens, output_tokens=output_tokens,
        context=context,
    )  # fmt: skip
    wanted = Target(fps=fps, memory_mb=memory_mb, reading=reading)
    searching = fps is not None or memory_mb is not None or output is not None
    known = _known(device)
    _need_onnx()
    sheet = _sheet(target, image_size, tokens, searching)
    found = known or _this(threads)
    if searching:
        choices = search(sheet, found, ask, wanted)
        if precision is not None:
            choices = [c for c in choices if c.prediction.precision == precision]
        show.choices(sheet, found, ask, wanted, choices, as_json=as_json, plot=output)
        return 0
    chosen = [precision or sheet.stored] if precision or sheet.stored else precisions(sheet)
    settings = sheet.settings or (None,)
    made = [predict(sheet, settings[0], p, found, ask) for p in chosen if p is not None]
    show.predictions(sheet, found, ask, made, as_json=as_json)
    return 0


def _box(path: str, device: str, as_json: bool) -> int:
    from edgevlm.cli.plan_box import plan_box
    from edgevlm.errors import ConfigError

    if device != "this":
        raise ConfigError(f"{path}: what several streams cost is measured, on this machine only")
    return plan_box(path, as_json)


def _frame(text: str) -> tuple[int, int]:
    from edgevlm.errors import ConfigError

    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ConfigError(f"--frame {text!r}: WIDTHxHEIGHT in pixels is wanted, as in 1280x720")
    if max(int(width), int(height)) > 1 << 14:
        raise ConfigError(f"--frame {text}: no camera is wider than {1 << 14} pixels")
    return int(width), int(height)


def _known(name: str) -> Device | None:
    """The device, or None for this machine, which is measured later."""
    from edgevlm.runtime.device.plan.devices import THIS, find

    return None if name == THIS else find(name)


def _need_onnx() -> None:
    from edgevlm.errors import BackendUnavailable

    try:
        import onnx  # noqa: F401 - asked for before work starts
    except ImportError as exc:
        raise BackendUnavailable(
            "plan counts graphs with onnx: pip install 'edgevlm[nano]' or 'edgevlm[export]', or "
            "plan on the machine that exports"
        ) from exc


def _sheet(target: str, image_size: int | None, tokens: int | None, further: bool) -> CostSheet:
    from edgevlm.errors import ConfigError
    from edgevlm.export.cost.bundle import bundle_sheet
    from edgevlm.export.cost.source import source_sheet
    from edgevlm.export.model_parts import ExportOptions

    path = Path(target)
    if target != "nano" and (path.suffix == ".evlm" or (path / "manifest.json").is_file()):
        chosen = {"--image-size": image_size, "--tokens": tokens}
        if odd := [flag for flag, value in chosen.items() if value is not None]:
            raise ConfigError(f"{', '.join(odd)}: {target} is a bundle, whose pictures are settled")
        return bundle_sheet(path)
    options = ExportOptions(image_size=image_size, tokens=tokens)
    sizes = SIZES if further and image_size is None else ()
    counts = TOKENS if further and tokens is None else ()
    return source_sheet(target, options, sizes, counts)


def _this(threads: int) -> Device:
    from edgevlm.cli.console import progress
    from edgevlm.export.cost.speed_probe import write_probes
    from edgevlm.runtime.device.plan.calibrate import measure
    from edgevlm.runtime.model.load import open_backend

    with (
        tempfile.TemporaryDirectory(prefix="edgevlm-plan-") as folder,
        progress("measuring this machine") as report,
    ):
        return measure(write_probes(Path(folder)), open_backend("ort-cpu", threads), report)
