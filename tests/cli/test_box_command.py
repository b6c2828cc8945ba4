"""``edgevlm run`` with several streams: its lines, an interrupt, refusals and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from tests.cli.conftest import COMMAND, Run

STREAM = """
[[streams]]
name = "{name}"
ask = "What is there?"
{more}
source = {{ uri = "{uri}" }}
generation = {{ max_tokens = 2 }}
policy = {{ gate = false }}
"""
ENDLESS = "synthetic:?live=1&fps=10&frames=1000000&size=160x120"
SHORT = "synthetic:?fps=10&frames=2&size=160x120"


@pytest.fixture
def box(nano: Bundle, tmp_path: Path):
    """Write a box of streams by name; each with a source and more lines."""

    def write(**streams: tuple[str, str]) -> Path:
        text = f'bundle = "{nano.root}"\n[engine]\nthreads = 1\n'
        for name, (uri, more) in streams.items():
            text += STREAM.format(name=name, uri=uri, more=more)
        path = tmp_path / "box.toml"
        path.write_text(text)
        return path

    return write


def test_an_interrupt_ends_every_stream_with_its_summary(box, tmp_path: Path):
    command = [*COMMAND, "run", str(box(a=(ENDLESS, "priority = 1"), b=(ENDLESS, "")))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline())]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    events += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 130
    *_, last = events
    assert (last["kind"], last["stream"], last["seq"]) == ("summary", "all", None)
    for name in ("a", "b"):
        own = [e for e in events if e["stream"] == name]
        assert [e["seq"] for e in own] == list(range(len(own)))
        assert own[-1]["kind"] == "summary"
        frames = last["streams"][name]
        assert frames == own[-1]["frames"]
        assert frames["read"] == (
            frames["answered"] + frames["reused"] + sum(frames["dropped"].values())
            + frames["failed"]
        )  # fmt: skip
    assert "2 of 2 streams fit" in err
    assert "all: " in err


def test_a_source_that_cannot_be_opened_is_named_before_any_event(
    box, edgevlm: Run, tmp_path: Path
):
    (tmp_path / "torn.mp4").write_bytes(b"no video at all")
    done = edgevlm("run", box(a=(SHORT, ""), b=(str(tmp_path / "torn.mp4"), "")))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("edgevlm: stream 'b': ")


def test_promises_that_do_not_fit_are_wrong_usage_unless_they_are_wanted(box, edgevlm: Run):
    path = box(a=(SHORT, "min_rate_hz = 5000.0"))
    done = edgevlm("run", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "0 of 1 streams fit" in done.stderr
    assert "--overcommit" in done.stderr
    done = edgevlm("plan", path)
    assert done.returncode == 1
    assert done.stdout.startswith("a: 5000 Hz x ")
    assert "does not fit\n0 of 1 streams fit: " in done.stdout
    done = edgevlm("run", path, "--overcommit", "--limit", "1")
    assert done.returncode == 0
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds == ["fault", "answer", "summary", "summary"]


def test_flags_of_one_stream_are_refused_for_several(box, edgevlm: Run):
    done = edgevlm("run", box(a=(SHORT, "")), "--max-tokens", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--set streams.NAME.generation.max_tokens=" in done.stderr
    done = edgevlm("run", box(a=(SHORT, "")), "--set", "streams.nobody.ask=x")
    assert done.returncode == 2
    assert "'nobody' is not a section" in done.stderr
