"""Exports that cannot finish: what was there stays, what was begun goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgevlm.bundle import check_files, open_bundle
from edgevlm.errors import BundleExists, CheckpointError, ExportError, ParityError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from tests.conftest import missing
from tests.export.tiny import Checkpoint, bundle_logits, config, contents, export_to, refused, save

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("failures") / "model", config("llama"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_a_target_that_is_there_stays_as_it_is(checkpoint: Checkpoint, target: Path) -> None:
    export_to(checkpoint.folder, target / "bundle")
    error = refused(checkpoint.folder, target)
    assert isinstance(error, BundleExists)
    assert "replace it with --force" in str(error)


def test_with_force_a_bundle_is_replaced_and_nothing_is_left_of_the_old_one(
    checkpoint: Checkpoint, target: Path
) -> None:
    old = export_to(checkpoint.folder, target / "bundle")
    (target / "bundle" / "notes.txt").write_text("mine")
    new = export_to(checkpoint.folder, target / "bundle", max_context=128, force=True)
    assert old.manifest.kv.capacity == 512
    assert open_bundle(target / "bundle").manifest.kv.capacity == 128
    assert [p.name for p in target.iterdir()] == ["bundle"]
    assert not (target / "bundle" / "notes.txt").exists()
    check_files(new.root, new.manifest, "always")


def test_with_force_an_archive_is_replaced(checkpoint: Checkpoint, target: Path) -> None:
    export_to(checkpoint.folder, target / "b.evlm")
    new = export_to(checkpoint.folder, target / "b.evlm", max_context=128, force=True)
    assert new.manifest.kv.capacity == 128
    assert [p.name for p in target.iterdir()] == ["b.evlm"]


@pytest.mark.parametrize("force", [True, False])
def test_a_folder_that_is_no_bundle_is_not_touched(
    checkpoint: Checkpoint, target: Path, force: bool
) -> None:
    (target / "bundle").mkdir()
    (target / "bundle" / "thesis.tex").write_text("years of work")
    assert isinstance(refused(checkpoint.folder, target, force=force), BundleExists)


def test_an_export_that_fails_leaves_the_bundle_that_it_was_to_replace(
    checkpoint: Checkpoint, target: Path, tmp_path: Path
) -> None:
    export_to(checkpoint.folder, target / "bundle")
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint.folder, broken)
    os.truncate(broken / "model.safetensors", 5000)
    assert isinstance(refused(broken, target, force=True), CheckpointError)
    open_bundle(target / "bundle", verify="always")


def test_folders_made_for_a_target_go_when_the_export_fails(
    checkpoint: Checkpoint, target: Path
) -> None:
    with pytest.raises(CheckpointError):
        export("nowhere", target / "a" / "b" / "c")
    assert contents(target) == {}
    export(str(checkpoint.folder), target / "a" / "b" / "c")
    assert open_bundle(target / "a" / "b" / "c")


def test_a_target_under_a_file_is_named(checkpoint: Checkpoint, target: Path) -> None:
    (target / "file").write_text("here")
    with pytest.raises(ExportError, match="cannot be written"):
        export(str(checkpoint.folder), target / "file" / "bundle")
    assert contents(target) == {"file": b"here"}


def test_progress_is_told_step_by_step_to_the_end(checkpoint: Checkpoint, target: Path) -> None:
    told: list[tuple[int, int, str]] = []
    export(str(checkpoint.folder), target / "b", report=lambda *step: told.append(step))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total, _ in told} == {len(told)}
    assert told[-1][2] == "parity"
    assert "layer 2/2" in [what for _, _, what in told]


# What the disk does not take.

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from edgevlm.cli.app import run_command
sys.exit(run_command(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [0, 100, 8192, 150_000, 330_000])
def test_a_file_that_the_disk_does_not_take_ends_in_one_line_and_leaves_nothing(
    checkpoint: Checkpoint, target: Path, limit: int
) -> None:
    words = [str(checkpoint.folder), "-o", str(target / "bundle")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "export", *words],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    assert contents(target) == {}
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edgevlm: ")
    assert "bundle cannot be written" in last
    assert "File too large" in last
    assert "Traceback" not in done.stderr


def test_a_limit_that_suffices_changes_nothing(checkpoint: Checkpoint, target: Path) -> None:
    words = [str(checkpoint.folder), "-o", str(target / "bundle")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "2000000", "export", *words],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    open_bundle(target / "bundle", verify="always")


@pytest.mark.parametrize("size", ["64k", "430k", "100m"])
def test_a_disk_too_small_is_said_before_the_work_and_leaves_nothing(
    checkpoint: Checkpoint, target: Path, size: str
) -> None:
    """A real file system of that size, in a mount namespace of its own."""
    namespace = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"]).returncode:
        missing("mount namespaces (Debian: util-linux) are not permitted here")
    script = (
        'mount -t tmpfs -o size="$1" none "$2" || exit 99; '
        '"$3" -m edgevlm export "$4" -o "$2/bundle"; code=$?; find "$2" -mindepth 1; exit $code'
    )
    words = [size, str(target), sys.executable, str(checkpoint.folder)]
    done = subprocess.run(
        [*namespace, "sh", "-c", script, "sh", *words], capture_output=True, text=True, timeout=100
    )
    if done.returncode == 99:
        missing(f"tmpfs cannot be mounted here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edgevlm: ")
    assert "the bundle needs about 0.2 GB and" in last
    assert "make room" in last
    assert "Traceback" not in done.stderr


# Ctrl-C.


def begin(source: str, target: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgevlm", "export", source, "-o", str(target / "bundle")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def await_line(process: subprocess.Popen[str], what: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if what in line:
            return
    pytest.fail(f"the export ended without {what!r}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_during_an_export_leaves_nothing(
    target: Path, running: list[subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    process = begin("nano", target)
    running.append(process)
    await_line(process, "export nano: 1/")
    assert [p.name.startswith(".bundle-") for p in target.iterdir()] == [True]
    process.send_signal(number)
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.wait(timeout=30)
    assert process.returncode == code
    assert contents(target) == {}
    assert "Traceback" not in stderr


@pytest.mark.parametrize("whom", ["the export", "the whole group"])
def test_ctrl_c_during_the_parity_run_ends_its_child_too(
    checkpoint: Checkpoint,
    target: Path,
    running: list[subprocess.Popen[str]],
    whom: str,
) -> None:
    process = begin(str(checkpoint.folder), target)
    running.append(process)
    await_line(process, "reference decoder")
    parent = psutil.Process(process.pid)
    children: list[psutil.Process] = []
    for _ in range(2000):
        with contextlib.suppress(psutil.Error):  # it may end while it is looked at
            children = parent.children(recursive=True)
            if any("edgevlm.runtime.model.certify" in c.cmdline() for c in children):
                break
        time.sleep(0.002)
    assert children, "the parity child was not seen"
    if whom == "the export":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.wait(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert contents(target) == {}
    assert not psutil.wait_procs(children, timeout=10)[1]


# Gates.


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A model whose outliers leave nothing of their neighbours in 4 bits.

    The outliers meet activations that are always zero, so that they change nothing in fp32.
    """
    made = save(tmp_path_factory.mktemp("rough") / "model", config("llama"))
    state = {k: v.clone() for k, v in made.model.state_dict().items()}
    for name, value in state.items():
        if "gate_proj" in name or "v_proj" in name:
            value[::16] = 0
        elif "down_proj" in name or "o_proj" in name:
            value[:, ::16] = 4
    made.model.save_pretrained(made.folder, state_dict=state)
    return made


def test_a_missed_gate_writes_nothing(rough: Checkpoint, target: Path) -> None:
    error = refused(rough.folder, target, precision="int4", repair_budget=0, calibrate=False)
    assert isinstance(error, ParityError)
    assert "parity gates missed (ort-cpu: logits" in str(error)
    assert "--allow-drift" in str(error)


def test_with_allow_drift_a_missed_gate_is_written_down(rough: Checkpoint, target: Path) -> None:
    chosen = {"precision": "int4", "repair_budget": 0, "calibrate": False}
    bundle = export_to(rough.folder, target / "bundle", allow_drift=True, **chosen)
    parity = bundle.manifest.parity
    assert parity is not None
    assert not parity.passed
    assert "ort-cpu: logits" in parity.degraded
    certificate = bundle.read_json("parity.json")
    assert certificate["backends"][0]["logits"]["passed"] is False
    assert certificate["backends"][0]["logits"]["kl_nats"] > 0.15


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_same_model_keeps_the_gates_of_higher_precisions(
    rough: Checkpoint, target: Path, precision: str
) -> None:
    bundle = export_to(rough.folder, target / "bundle", precision=precision)
    assert bundle.manifest.parity is not None
    assert bundle.manifest.parity.passed
    assert bundle.manifest.parity.degraded == ()


def test_the_certificate_is_made_from_the_bundle_and_not_from_the_exporter(
    checkpoint: Checkpoint, target: Path
) -> None:
    done = export(str(checkpoint.folder), target / "bundle", ExportOptions())
    logits = done.certificate.backends[0].logits
    assert logits is not None
    probe = {n: _probe(done.target, n) for n in ("before", "after", "tokens", "logits")}
    ids = [*probe["before"], *probe["after"], *probe["tokens"][:-1]]
    found = bundle_logits(open_bundle(done.target), [int(i) for i in ids])
    start = len(probe["before"]) + len(probe["after"]) - 1
    difference = found[start : start + len(probe["logits"])] - probe["logits"]
    assert logits.max_abs == pytest.approx(abs(difference).max(), rel=0.5)
    assert logits.positions == len(probe["logits"]) == 16


def _probe(root: Path, name: str) -> Any:
    import numpy as np

    return np.load(root / "probe" / f"{name}.npy")
