"""``edgevlm build`` as a shell sees it, with the real TensorRT-RTX."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle, open_bundle, pack
from tests.cli.conftest import Run

pytest.importorskip("tensorrt_rtx_libs", reason="needs the extra trt-rtx")


def test_engines_go_into_the_bundle_and_inspect_shows_them(
    copied: Path, tiny: Bundle, edgevlm: Run
):
    done = edgevlm("build", copied, "--target", "trt-rtx:sm89", "--precision", "fp32", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bundle_id"] == tiny.id == open_bundle(copied, "always").id
    key = found["graphs"]["decoder"]["key"]
    assert (key["platform"]["sm"], key["precision"]) == ("89", "fp32")
    assert found["graphs"]["decoder"]["aliases"]["present.0.key"] == "past_key_values.0.key"
    assert found["compiled"]["decoder"]["peak_mib"] > 50
    assert "decoder: building engine" in done.stderr
    assert "ahead of time" in done.stderr
    # What the lowering costs was measured on the probe, and is shown: nothing, in float32.
    assert found["lowered"]["logits"]["max_abs"] < 1e-3
    assert found["lowered"]["greedy"]["agreed"] == found["lowered"]["greedy"]["steps"]
    assert found["parity"] == {**found["parity"], "status": "compiled, not run", "logits": None}
    shown = edgevlm("inspect", copied).stdout
    assert shown.count("before anything is compiled") == 1
    assert "fp32 as" not in shown
    assert "engines for trt-rtx:sm89: tensorrt-rtx" in edgevlm("inspect", copied).stdout
    again = edgevlm("build", copied, "--target", "trt-rtx:sm89")
    assert again.returncode == 1
    assert "has engines for trt-rtx:sm89 already; replace them with --force" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "trt-rtx:sm87"], 2, "a Jetson has sm87 or sm110 and takes trt"),
        (["--target", "cuda"], 2, "--target cuda: one of trt-rtx:sm86, "),
        (["--target", "trt", "--level", "6"], 2, "--level"),
        ([], 2, "--target"),
    ],
)
def test_wrong_usage_is_2(copied: Path, edgevlm: Run, words: list[str], code: int, said: str):
    done = edgevlm("build", copied, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_what_is_not_here_is_1_and_one_line(tiny: Bundle, tmp_path: Path, edgevlm: Run):
    packed = tmp_path / "tiny.evlm"
    pack(tiny.root, packed)
    done = edgevlm("build", packed, "--target", "trt-rtx:sm86")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unzip -q" in done.stderr
