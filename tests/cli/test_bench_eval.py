"""``edgevlm bench --eval`` on a user's own pictures and questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from tests.cli.conftest import Run


@pytest.fixture
def questions(tmp_path: Path, photograph: Callable[[str], Path]) -> Path:
    """Three questions about two photographs."""
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(photograph(name), tmp_path)
    what = "What is the main thing in this picture?"
    lines = [
        {"picture": "chelsea.png", "question": what, "answers": ["cat", "tabby"], "kind": "name"},
        {"picture": "coffee.png", "question": what, "answers": ["coffee", "cup"], "kind": "name"},
        {"picture": "coffee.png", "question": "Is it a car?", "answers": ["no"], "kind": "other"},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return file


def test_every_answer_is_judged_and_counted(nano: Bundle, questions: Path, edgevlm: Run):
    done = edgevlm("bench", str(nano.root), "--eval", str(questions), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [kind["kind"] for kind in found["kinds"]] == ["name", "other"]
    name = found["kinds"][0]
    assert name["right"]["of"] == name["blind"]["of"] == 2
    assert name["pairs"]["of"] == 1
    assert name["right"]["count"] == sum(a["right"] for a in found["answers"][:2])
    assert found["answers"][0]["picture"].endswith("chelsea.png")
    assert "cat" in found["answers"][0]["said"].lower()
    assert found["answers"][0]["right"]
    assert 0 <= found["calibration_error"] <= 1


def test_answers_and_speed_are_measured_one_at_a_time(nano: Bundle, questions: Path, edgevlm: Run):
    done = edgevlm("bench", str(nano.root), "--eval", str(questions), "--against", "llama.cpp")
    assert done.returncode == 2
    assert "one at a time" in done.stderr


def test_a_bad_file_is_one_line_before_anything_is_loaded(
    nano: Bundle, tmp_path: Path, edgevlm: Run
):
    done = edgevlm("bench", str(nano.root), "--eval", str(tmp_path / "none.jsonl"))
    assert done.returncode == 2
    assert done.stderr.startswith("edgevlm: --eval")
    assert done.stderr.count("\n") == 1
