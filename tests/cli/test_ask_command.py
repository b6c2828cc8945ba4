"""``edgevlm ask`` as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from tests.cli.conftest import Run

Photograph = Callable[[str], Path]
ANSWER_KEYS = [
    "text", "token_ids", "answer", "confidence", "finish_reason", "timings_ms", "tokens", "backend",
]  # fmt: skip


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


def test_ask_says_on_stderr_that_the_fallback_answers(nano: Bundle, edgevlm: Run):
    done = edgevlm("ask", nano.root, "Hello?", "--max-tokens", "2", "--backend", "ort-cuda",
                   "--fallback", "ort-cpu", "--json")  # fmt: skip
    assert json.loads(done.stdout)["backend"] in ("ort-cpu", "ort-cuda")
    if "ort-cpu" in done.stdout:
        assert "ort-cuda is not used, ort-cpu answers: " in done.stderr
        assert "edgevlm[cuda]" in done.stderr or "driver" in done.stderr
    refused = edgevlm("ask", nano.root, "Hello?", "--backend", "ort-cuda")
    assert refused.returncode == (1 if "ort-cpu" in done.stdout else 0)


def test_export_to_a_file_and_ask_it(tiny: Bundle, tmp_path: Path, edgevlm: Run):
    done = edgevlm("export", tiny.root.parent / "checkpoint", "-o", "made.evlm", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["bundle_id"] == tiny.id
    assert "parity against" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["made.evlm"]
    answered = edgevlm("ask", "made.evlm", "Hi", "--max-tokens", "2", "--json")
    assert list(json.loads(answered.stdout)) == ANSWER_KEYS
