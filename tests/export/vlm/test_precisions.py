"""One small model in every precision, and what becomes of one that misses its gates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from edgevlm.bundle import open_bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import ParityError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.parity import GATE_COSINE, GATE_KL_NATS
from tests.export.vlm import tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precisions") / "checkpoint"
    tiny.smolvlm(folder)
    return folder


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_a_bundle_keeps_the_gates_of_its_precision(
    checkpoint: Path, tmp_path: Path, precision: str, capfd: pytest.CaptureFixture[str]
):
    done = export(str(checkpoint), tmp_path / "bundle", ExportOptions(precision=precision))
    found = done.certificate.backends[0]
    tower = "int8" if precision == "int4" else precision
    for stage in found.stages:
        if stage.stage.startswith("vision."):
            assert (stage.precision, stage.gate_cosine) == (tower, GATE_COSINE[tower])
            assert stage.cosine >= GATE_COSINE[tower]
    assert found.logits is not None
    assert found.logits.kl_nats <= GATE_KL_NATS[precision]
    assert found.greedy is not None
    assert found.greedy.decisive_misses == 0
    assert done.manifest.parity.passed
    assert done.manifest.precision == precision
    calibrated = "4-bit weights calibrated on 15360 tokens of text and on pictures (GPTQ)"
    assert (calibrated in done.manifest.graphs["decoder"].notes) == (precision == "int4")
    status = "emulated" if precision == "fp16" else "measured"  # the CPU computes in float32
    assert (found.backend, found.status) == ("ort-cpu", status)
    assert run_command(["inspect", str(tmp_path / "bundle")]) == 0
    assert ("ort-cpu (emulated)" in capfd.readouterr().out) == (precision == "fp16")


@pytest.fixture(scope="module")
def drifted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle below its gates, accepted, and what was said before it was.

    Outliers on inputs that are always zero leave nothing of their neighbours in 4 bits.
    """
    root = tmp_path_factory.mktemp("drifted")
    source = Path(shutil.copytree(checkpoint, root / "checkpoint"))
    tensors = load_file(source / "model.safetensors")
    for name, value in tensors.items():
        if ".text_model.layers." not in name:
            continue
        if "gate_proj" in name or "v_proj" in name:
            value[::16] = 0
        elif "down_proj" in name or "o_proj" in name:
            value[:, ::16] = 40
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    options = ExportOptions(precision="int4", calibrate=False, repair_budget=0, resume=True)
    with pytest.raises(ParityError) as caught:
        export(str(source), root / "bundle", options)
    assert not (root / "bundle").exists()
    export(str(source), root / "bundle", replace(options, allow_drift=True))
    return root / "bundle", str(caught.value)


def test_below_a_gate_nothing_is_written_unless_it_is_accepted(drifted: tuple[Path, str]):
    path, said = drifted
    assert "parity gates missed (ort-cpu: logits" in said
    assert "--allow-drift" in said
    parity = open_bundle(path).manifest.parity
    assert parity is not None
    assert not parity.passed
    assert "ort-cpu: logits" in parity.degraded


def test_every_event_of_an_accepted_bundle_says_that_it_is_degraded(
    drifted: tuple[Path, str], capfd: pytest.CaptureFixture[str]
):
    words = ["--source", "synthetic:?seed=1&frames=3&size=64x48", "--ask", "What is there?",
             "--max-tokens", "2", "--threads", "1", "--no-gate"]  # fmt: skip
    assert run_command(["run", "--bundle", str(drifted[0]), *words]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    answers = [event for event in events if event["kind"] == "answer"]
    assert len(answers) == 3
    for event in answers:
        assert "parity: ort-cpu: logits" in event["degraded"]


def test_inspect_and_verify_say_so_too(
    drifted: tuple[Path, str], capfd: pytest.CaptureFixture[str]
):
    assert run_command(["inspect", str(drifted[0])]) == 0
    out, _ = capfd.readouterr()
    assert "MISSED" in out
    assert "degraded: ort-cpu: logits" in out
    assert run_command(["inspect", str(drifted[0]), "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["parity"]["backends"][0]["logits"]["passed"] is False
    assert run_command(["verify", str(drifted[0])]) == 1
    assert "parity gates missed: ort-cpu: logits" in capfd.readouterr().err
