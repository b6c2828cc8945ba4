"""Building for a TensorRT that is scripted: what reaches it, what stays in the bundle, and what
is left when it fails."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.bundle import Bundle, open_bundle, pack
from edgevlm.bundle.build_record import built_here, find_engine
from edgevlm.bundle.engine_writer import EngineWriter
from edgevlm.bundle.engines import Platform
from edgevlm.errors import (
    BackendUnavailable,
    BuildError,
    BuildMemoryError,
    BundleError,
    BundleExists,
    ConfigError,
    EngineMismatch,
    ExportError,
    UnsupportedOperator,
)
from edgevlm.export.engines.build import BuildOptions, Built, build, lowering_for
from edgevlm.export.engines.job import Device
from edgevlm.export.engines.target import TARGETS, parse_target
from tests.export.engines.graphs import lower

ROOT = Path(__file__).parent.parent.parent.parent
ORIN = Device(sm="87", name="Orin", cuda="13.2")
Build = Callable[..., Built]
FAILURES = {
    "TACTICS_SKIPPED": r"rows: out of memory during the build \(Tactic Device request: 4229MB",
    "KILLED": "rows: the compiler was killed, most likely for want of memory; close what else",
    "JETPACK_6": r"decoder: TensorRT 10\.3 \(JetPack 6\) refuses opset 24 is newer than 21",
    "JETPACK_5": r"tensorrt 8\.5\.2 is too old: 10\.3 or later",
    "NOT_THERE": r"AttributeError.*NOT_THERE",
}


@pytest.fixture
def bundle(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a bundle, and a cache of its own."""
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Path(shutil.copytree(tiny.root, tmp_path / "bundle"))


@pytest.fixture
def on(bundle: Path) -> Build:
    """Build with one of the scripted libraries."""

    def run(double: str, **options: Any) -> Built:
        module = f"tests.export.engines.doubles:{double}"
        target = dataclasses.replace(parse_target("trt"), module=module)
        return build(
            bundle, target, BuildOptions(device=ORIN, measure=False, **options), lower=lower
        )

    return run


def content(root: Path) -> dict[str, bytes]:
    """Every file, to see that none changed."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_engines_are_in_the_bundle_under_its_old_name(on: Build, bundle: Path, tiny: Bundle):
    done = on("JETPACK_7", level=5, workspace_mib=77)
    opened = open_bundle(bundle, "always")
    assert opened.manifest == done.manifest
    assert opened.id == tiny.id
    made = opened.manifest.engines["trt"]
    assert (made.built, made.parity.status) == ("here", "compiled, not run")
    assert list(made.graphs) == ["rows", "decoder"]
    decoder = made.graphs["decoder"]
    assert decoder.aliases == {"present": "past"}
    assert decoder.key.bundle == tiny.id
    assert decoder.key.platform == Platform(
        library="tensorrt", version="10.16.2", cuda="13.2", sm="87", device="Orin"
    )
    assert decoder.key.profiles[0]["new"].max == (1, 2, 8, 16)
    assert "past" not in decoder.key.profiles[0]
    assert decoder.notes == ("drawn by hand",)
    assert {p.parent.name for p in (bundle / "engines").rglob("*.engine")} == {"trt"}
    assert len(content(bundle)) == len(content(tiny.root)) + 2
    # What was asked for reached the compiler.
    described = json.loads((bundle / decoder.file).read_text())
    assert described["limits"] == {"WORKSPACE": 77 << 20}
    assert described["level"] == 5
    assert described["profiles"][0]["query"] == [[1, 4, 1, 16], [1, 4, 1, 16], [1, 4, 8, 16]]
    assert len(described["profiles"]) == 1
    assert decoder.key.flags == {"level": "5", "workspace_mib": "77"}
    # This device may load what it made, and nothing else.
    here = decoder.key.platform
    assert find_engine(opened, "trt", "decoder", here)[0].is_file()
    assert set(built_here().values()) == {
        f"trt {path.relative_to(bundle)}" for path in (bundle / "engines").rglob("*.engine")
    }
    upgraded = here.model_copy(update={"version": "10.16.3"})
    with pytest.raises(EngineMismatch, match=r"version is 10\.16\.2, here 10\.16\.3"):
        find_engine(opened, "trt", "decoder", upgraded)


@pytest.mark.usefixtures("one_process")
def test_engines_are_replaced_only_when_told_and_timings_outlive_them(on: Build, bundle: Path):
    on("JETPACK_7")
    (timings,) = (bundle.parent / "cache" / "timing").iterdir()
    assert timings.name == "tensorrt-10.16.2-sm87.timing"
    assert timings.read_bytes() == b"timed;timed;"
    before = content(bundle)
    with pytest.raises(BundleExists, match=r"has engines for trt already; replace .* --force"):
        on("JETPACK_7", level=5)
    with pytest.raises(BuildMemoryError):
        on("TACTICS_SKIPPED", force=True)
    assert content(bundle) == before
    done = on("JETPACK_7", level=5, force=True)
    assert timings.read_bytes() == b"timed;" * 4
    assert done.manifest.engines["trt"].graphs["rows"].key.flags["level"] == "5"
    assert len(list((bundle / "engines").rglob("*.engine"))) == 2
    open_bundle(bundle, "always")


@pytest.mark.usefixtures("one_process")
def test_targets_do_not_touch_each_other(on: Build, bundle: Path):
    first = on("JETPACK_7").manifest.engines["trt"]
    rtx = dataclasses.replace(
        parse_target("trt-rtx:sm86"),
        library="tensorrt",
        module="tests.export.engines.doubles:JETPACK_7",
    )
    device = Device(sm="86", cuda="13")
    done = build(bundle, rtx, BuildOptions(device=device, measure=False), lower=lower)
    assert done.manifest.engines["trt"] == first
    assert done.manifest.engines["trt-rtx:sm86"].built == "ahead-of-time"
    assert (bundle / "engines" / "trt-rtx-sm86").is_dir()
    assert open_bundle(bundle, "always").manifest == done.manifest


@pytest.mark.parametrize(
    ("double", "kind"),
    [("TACTICS_SKIPPED", BuildMemoryError), ("KILLED", BuildMemoryError),
     ("JETPACK_6", UnsupportedOperator), ("JETPACK_5", BackendUnavailable),
     ("NOT_THERE", BuildError)],
)  # fmt: skip
def test_a_failure_crosses_the_process_and_the_bundle_stays_as_it_was(
    on: Build, bundle: Path, double: str, kind: type[Exception]
):
    before = content(bundle)
    with pytest.raises(kind, match=FAILURES[double]) as caught:
        on(double)
    assert type(caught.value) is kind
    assert content(bundle) == before
    assert not (bundle / "engines").exists()
    assert not built_here()


@pytest.mark.usefixtures("one_process")
def test_engines_that_are_not_the_graphs_are_refused(bundle: Path):
    def lie(*arguments: Any) -> Any:
        graphs = lower(*arguments)
        wrong = graphs["rows"].outputs[0].model_copy(update={"dtype": "float16"})
        return graphs | {"rows": dataclasses.replace(graphs["rows"], outputs=(wrong,))}

    target = dataclasses.replace(
        parse_target("trt"), module="tests.export.engines.doubles:JETPACK_7"
    )
    with pytest.raises(BuildError, match=r"rows: .*y is float32, wanted float16"):
        build(bundle, target, BuildOptions(device=ORIN, measure=False), lower=lie)


@pytest.mark.usefixtures("one_process")
def test_a_graph_without_a_lowering_is_named(bundle: Path):
    target = dataclasses.replace(
        parse_target("trt"), module="tests.export.engines.doubles:JETPACK_7"
    )
    with pytest.raises(ExportError, match="no lowering for the graphs decoder"):
        build(bundle, target, BuildOptions(device=ORIN, measure=False), lower=lambda *_: {})


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whenever_a_build_is_stopped_the_bundle_still_opens(
    on: Build, bundle: Path, number: signal.Signals
):
    script = (
        "import signal, sys, pathlib, dataclasses, time\n"
        "from edgevlm.export.engines.build import BuildOptions, build\n"
        "from edgevlm.export.engines.job import Device\n"
        "from edgevlm.export.engines.target import parse_target\n"
        "from tests.export.engines.graphs import lower\n"
        "signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))\n"
        "def slow(*arguments):\n"
        "    graphs = lower(*arguments)\n"
        "    print('lowered', flush=True)\n"
        "    time.sleep(60)\n"
        "target = dataclasses.replace(\n"
        "    parse_target('trt'), module='tests.export.engines.doubles:JETPACK_7')\n"
        "build(pathlib.Path(sys.argv[1]), target, BuildOptions(device=Device(sm='87', cuda='13')),"
        " lower=slow)\n"
    )
    before = content(bundle)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(bundle)], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"lowered\n"
        with pytest.raises(BundleError, match="another build is at work"):
            on("JETPACK_7")
        process.send_signal(number)
        process.wait(timeout=20)
    open_bundle(bundle, "always")
    if number != signal.SIGKILL:  # which leaves no chance to clean up
        assert content(bundle) == before
    on("JETPACK_7")
    open_bundle(bundle, "always")
    left = {p.suffix for p in (bundle / "engines").rglob("*") if p.is_file()}
    assert left == {".engine"}


def test_a_compiler_ends_with_the_build_that_started_it(on: Build, monkeypatch: Any):
    from edgevlm.export.engines import process

    started: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def remember(*arguments: Any, **named: Any) -> Any:
        started.append(real(*arguments, **named))
        return started[-1]

    def interrupted(child: Any, _job: Any, _say: Any) -> Any:
        deadline = time.monotonic() + 10
        while child.poll() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(process.subprocess, "Popen", remember)
    monkeypatch.setattr(process, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on("JETPACK_7")
    assert [child.poll() for child in started] == [-signal.SIGKILL]


def test_a_packed_bundle_is_refused_with_the_way_out(tiny: Bundle, tmp_path: Path):
    packed = tmp_path / "tiny.evlm"
    pack(tiny.root, packed)
    with pytest.raises(BundleError, match=r"is packed, .*: unzip -q .*tiny\.evlm -d .*tiny, and"):
        build(packed, parse_target("trt-rtx:sm86"), lower=lower)


def test_no_bundle_is_no_place_for_engines(tmp_path: Path):
    with pytest.raises(BundleError, match="edgevlm export nano"):
        build(tmp_path / "none", parse_target("trt-rtx:sm86"), lower=lower)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="is not a bundle"):
        build(tmp_path / "empty", parse_target("trt-rtx:sm86"), lower=lower)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_machine_without_tensorrt_is_told_where_it_comes_from(bundle: Path):
    target = dataclasses.replace(parse_target("trt"), module="tensorrt_that_is_not_here")
    with pytest.raises(BackendUnavailable, match="tensorrt is not on this machine: on a Jetson: s"):
        build(bundle, target, lower=lower)


@pytest.mark.usefixtures("one_process")
def test_a_machine_without_a_driver_cannot_build_for_itself(bundle: Path):
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a device here")
    target = dataclasses.replace(
        parse_target("trt"), module="tests.export.engines.doubles:JETPACK_7"
    )
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver on this machine"):
        build(bundle, target, lower=lower)
    assert not (bundle / "engines").exists()


@pytest.mark.parametrize("name", ["trt-rtx", "trt-rtx:sm87", "cuda", "", "trt-rtx:86", "TRT"])
def test_an_unknown_target_lists_the_known_ones(name: str):
    with pytest.raises(ConfigError, match=f"one of {', '.join(TARGETS)}"):
        parse_target(name)


def test_a_jetson_is_pointed_to_its_own_tensorrt():
    with pytest.raises(ConfigError, match="a Jetson has sm87 or sm110 and takes trt"):
        parse_target("trt-rtx:sm87")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_parses(name: str):
    assert parse_target(name).name == name


@pytest.mark.parametrize(
    ("library", "version", "lowering"),
    [("tensorrt", "10.3.0.26", "trt10-compat"), ("tensorrt", "10.14.1", "trt10-compat"),
     ("tensorrt", "10.15.0", "onnx-std"), ("tensorrt", "11.4", "onnx-std"),
     ("tensorrt-rtx", "1.7.1.116", "onnx-std"), ("onnxruntime", "1.31.1", "trt10-compat")],
)  # fmt: skip
def test_old_libraries_get_old_operators(library: Any, version: str, lowering: str):
    platform = Platform(library=library, version=version, cuda="13", sm="87")
    assert lowering_for(platform) == lowering


@pytest.mark.usefixtures("one_process")
def test_the_disk_is_full_and_nothing_remains(on: Build, bundle: Path, monkeypatch: Any):
    before = content(bundle)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EngineWriter, "_replace_manifest", full)
    with pytest.raises(BundleError, match=r"cannot take the engines: .*No space left"):
        on("JETPACK_7")
    kept = {k: v for k, v in content(bundle).items() if not k.startswith("engines/")}
    assert kept == before
    open_bundle(bundle, "always")
