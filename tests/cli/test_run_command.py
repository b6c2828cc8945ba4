"""``edgevlm run`` as a process: its lines, its signals, its last words."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgevlm.bundle import Bundle
from tests.cli.conftest import COMMAND, Run

LIVE = "synthetic:?live=1&fps=10&frames=1000000&size=160x120"
Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(nano: Bundle, tmp_path: Path) -> Iterator[Started]:
    """A running stream; ended when the test ends."""
    running: list[subprocess.Popen[str]] = []

    def run(source: str, *words: str) -> subprocess.Popen[str]:
        command = [
            *COMMAND, "run", "--bundle", str(nano.root), "--source", source,
            "--ask", "What is there?", "--max-tokens", "2", "--threads", "1", *words,
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def first_event(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The first line, as soon as it is there."""
    assert process.stdout is not None
    return dict(json.loads(process.stdout.readline()))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_a_live_stream_with_its_summary(start: Started, number: int, code: int):
    process = start(LIVE, "--no-gate")
    events = [first_event(process)]  # flushed: it came while the stream goes on
    assert events[0]["kind"] == "answer"
    assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    events += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == code
    assert [e["kind"] for e in events] == ["answer"] * (len(events) - 1) + ["summary"]
    assert [e["seq"] for e in events] == list(range(len(events)))
    frames = events[-1]["frames"]
    assert frames["answered"] == len(events) - 1
    assert frames["read"] == (
        frames["answered"] + frames["reused"] + sum(frames["dropped"].values()) + frames["failed"]
    )
    assert err.startswith(f"{frames['read']} frames: {frames['answered']} answered")
    assert err.count("\n") == 1


def test_a_signal_ends_a_recorded_stream_between_two_frames(start: Started):
    process = start("synthetic:?frames=1000000&size=160x120", "--no-gate")
    first_event(process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["kind"] == "summary"


def test_a_reader_that_leaves_ends_the_stream_quietly(start: Started):
    process = start(LIVE, "--no-gate")
    first_event(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 0


def test_a_source_that_is_not_there_is_one_line_before_any_event(nano: Bundle, edgevlm: Run):
    done = edgevlm("run", "--bundle", nano.root, "--source", "gone.mp4", "--ask", "What?")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "edgevlm: gone.mp4 does not exist\n"


def test_the_peak_memory_is_the_streams_own_and_not_that_of_its_parent():
    code = "from edgevlm.runtime.stream.accounting import peak_rss_mb; print(peak_rss_mb())"
    held = b"x" * 500_000_000  # Linux hands ru_maxrss on to a child
    done = subprocess.run([COMMAND[0], "-c", code], capture_output=True, text=True, check=True)
    assert len(held) == 500_000_000
    assert 10 < float(done.stdout) < 300


def test_several_questions_are_answered_on_each_frame_and_replayed(
    nano: Bundle, edgevlm: Run, photograph: Callable[[str], Path]
):
    asked = ["--ask", "What is it?", "--ask", "What is behind it?"]
    words = ["-b", nano.root, "-s", photograph("coffee.png"), "--max-tokens", "3"]
    done = edgevlm("run", *words, *asked, "--record", "recorded")
    assert done.returncode == 0, done.stderr
    *answers, summary = map(json.loads, done.stdout.splitlines())
    assert [a["question"] for a in answers] == asked[1::2]
    assert [a["frame"] for a in answers] == [0, 0]
    assert summary["frames"]["answered"] == summary["frames"]["read"] == 1
    same = edgevlm("replay", "recorded", "-b", nano.root)
    assert same.stdout == "2 answers: 2 the same, 0 changed\n", same.stderr
    fewer = edgevlm("replay", "recorded", "-b", nano.root, "--ask", "Name a colour.", "--json")
    diff = json.loads(fewer.stdout)
    assert diff["answers"] == 2
    assert diff["changed"][-1]["question"] == asked[3]
    assert diff["changed"][-1]["after"] is None


def test_a_config_file_runs_and_flags_override_it(
    nano: Bundle, tmp_path: Path, edgevlm: Run, photograph: Callable[[str], Path]
):
    config = (
        f'name = "door"\nbundle = "{nano.root}"\nask = "What is there?"\n'
        f'[source]\nuri = "{photograph("coffee.png")}"\n[generation]\nmax_tokens = 9\n'
    )
    (tmp_path / "run.toml").write_text(config)
    done = edgevlm("run", "run.toml", "--set", "generation.max_tokens=7", "--max-tokens", "3")
    assert done.returncode == 0
    answer, summary = map(json.loads, done.stdout.splitlines())
    assert (answer["stream"], answer["tokens"]["output"]) == ("door", 3)
    assert summary["frames"]["answered"] == 1
