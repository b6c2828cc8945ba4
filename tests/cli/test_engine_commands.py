"""Engines as ``inspect`` shows and ``verify`` checks them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevlm.bundle.build_record import record_built
from tests.cli.conftest import Run
from tests.core.engines import CODE, FILE, add_engine


@pytest.fixture
def built(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with an engine, and a device that made none."""
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    add_engine(copied)
    return copied


def test_inspect_shows_engines_and_whether_this_device_loads_them(built: Path, edgevlm: Run):
    shown = edgevlm("inspect", built).stdout
    assert "engines for trt: tensorrt 10.3.0, CUDA 12.6, sm87 (Orin), built here, " in shown
    assert "compiled, not run" in shown
    assert "inputs_embeds 1x1x64..1x32x64" in shown
    assert "with --trust-engines" in shown
    record_built(
        {json.loads(edgevlm("inspect", built, "--json").stdout)["files"][FILE]["sha256"]: ""}
    )
    assert "with --trust-engines" not in edgevlm("inspect", built).stdout


def test_inspect_gives_engines_as_json(built: Path, edgevlm: Run):
    found = json.loads(edgevlm("inspect", built, "--json").stdout)
    assert found["engines"]["trt"]["built"] == "here"
    assert found["engines"]["trt"]["graphs"]["decoder"]["key"]["platform"]["sm"] == "87"
    named = {b["backend"]: b["status"] for b in found["parity"]["backends"]}
    assert named["ort-cpu"] == "measured"
    assert named["trt"] == "compiled, not run"


def test_verify_covers_engines_and_says_that_they_did_not_run(built: Path, edgevlm: Run):
    done = edgevlm("verify", built)
    assert done.returncode == 0, done.stderr
    assert ", 1 engines among them" in done.stdout
    assert "compiled, not run" in done.stdout
    found = json.loads(edgevlm("verify", built, "--json").stdout)
    assert (found["engines"], found["passed"]) == (1, True)
    assert {"trt"} <= {b["backend"] for b in found["parity"]["backends"]}


def test_verify_names_a_damaged_engine_and_other_commands_go_on(built: Path, edgevlm: Run):
    (built / FILE).write_bytes(CODE[:-1])
    done = edgevlm("verify", built)
    assert done.returncode == 1
    assert f"{FILE} has 11 bytes, the manifest says 12; build it again with: edgevlm" in done.stderr
    assert edgevlm("inspect", built).returncode == 0
