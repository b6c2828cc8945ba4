"""Question files of users: what is read, and what is said of a bad line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgevlm.errors import ConfigError
from edgevlm.runtime.device.evaluation.question_file import read_questions

GOOD = {"picture": "in/a.png", "question": " Is it? ", "answers": ["yes"], "kind": "door"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"")
    return tmp_path


def written(folder: Path, *lines: object) -> Path:
    file = folder / "questions.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("\n".join(texts), "utf-8")
    return file


def test_lines_become_examples_with_pictures_beside_the_file(folder: Path):
    no_kind = {key: value for key, value in GOOD.items() if key != "kind"}
    first, second = read_questions(written(folder, GOOD, "", no_kind, ""))
    assert first.picture == folder / "in" / "a.png"
    assert (first.question, first.answers, first.kind) == ("Is it?", ("yes",), "door")
    assert second.kind == "question"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r":2: Invalid JSON"),
        ('["a"]', r":2: Input should be an object"),
        ({**GOOD, "answer": "yes"}, r":2: unknown key 'answer': known are picture.*answers"),
        ({"picture": "in/a.png", "question": "Is it?"}, r":2: answers: Field required"),
        ({**GOOD, "answers": []}, r":2: answers: List should have at least 1"),
        ({**GOOD, "answers": "yes"}, r":2: answers: Input should be a valid (list|array)"),
        ({**GOOD, "answers": ["  "]}, r":2: answers\.0: String should have at least 1"),
        ({**GOOD, "picture": "in/b.png"}, r":2: there is no picture .*b\.png"),
        ({**GOOD, "picture": "in"}, r":2: there is no picture"),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: object, said: str):
    with pytest.raises(ConfigError, match=said):
        read_questions(written(folder, GOOD, line))


def test_a_file_without_questions_is_refused(folder: Path):
    with pytest.raises(ConfigError, match="holds no question"):
        read_questions(written(folder, "", ""))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_questions(folder / "none.jsonl")
    (folder / "latin.jsonl").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_questions(folder / "latin.jsonl")
