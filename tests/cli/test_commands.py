"""The verbs as a shell sees them: exit codes, what is on stdout, what is on stderr."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import edgevlm as package
from edgevlm import registry
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from tests.cli.conftest import COMMAND, Run, one_line


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
    "classify", "segment", "locate",
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
