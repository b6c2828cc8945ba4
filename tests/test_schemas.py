"""The published JSON Schemas: up to date, and true of what is really written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from edgevlm.bundle import Bundle

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docs" / "make_schemas.py"


def validator(name: str) -> Draft202012Validator:
    """A committed schema, itself valid."""
    schema = json.loads((ROOT / "docs" / name).read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def make_schemas(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the script that writes and checks them."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False
    )


def test_the_committed_schemas_are_what_the_code_says():
    done = make_schemas("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_names_a_schema_that_differs_or_is_missing(tmp_path: Path):
    assert make_schemas(str(tmp_path)).returncode == 0
    assert make_schemas("--check", str(tmp_path)).returncode == 0
    event = tmp_path / "event.schema.json"
    event.write_text(event.read_text().replace('"superseded"', '"overtaken"'))
    (tmp_path / "manifest.schema.json").unlink()
    done = make_schemas("--check", str(tmp_path))
    assert done.returncode == 1
    assert "event.schema.json is out of date" in done.stderr
    assert "manifest.schema.json is out of date" in done.stderr
    assert not (tmp_path / "manifest.schema.json").exists()


@pytest.fixture(scope="module")
def lines(
    nano: Bundle,
    photograph: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[str]:
    """What the real command prints for two photographs, one of them twice, and a broken file."""
    folder = tmp_path_factory.mktemp("photographs")
    names = ("coffee.png", "coffee.png", "chelsea.png")
    for n, name in enumerate(names):
        shutil.copy(photograph(name), folder / f"{n}.png")
    (folder / "3.png").write_bytes(b"not a picture")
    command = [
        sys.executable, "-m", "edgevlm", "run", "--bundle", str(nano.root), "--source", str(folder),
        "--ask", "What is in the picture?", "--reuse-every", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_every_line_of_a_real_stream_keeps_the_event_schema(lines: list[str]):
    checked = validator("event.schema.json")
    for line in lines:
        assert [error.message for error in checked.iter_errors(json.loads(line))] == []


def test_the_stream_has_an_answer_a_reused_one_another_answer_and_a_summary(lines: list[str]):
    first, again, other, fault, summary = map(json.loads, lines)
    assert (first["kind"], first["reused"], first["frame"]) == ("answer", False, 0)
    assert "espresso" in first["text"]
    assert (again["reused"], again["of"], again["frame"]) == (True, first["seq"], 1)
    assert again["text"] == first["text"]
    assert (other["reused"], other["frame"]) == (False, 2)
    assert (fault["kind"], fault["code"]) == ("fault", "damaged")
    assert "3.png" in fault["message"]
    assert summary["kind"] == "summary"
    assert summary["frames"] == {
        "read": 4, "answered": 2, "reused": 1, "dropped": {"undecodable": 1}, "failed": 0,
    }  # fmt: skip
    assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2, 3, 4]


def everywhere(schema: Any) -> list[dict[str, Any]]:
    """Every object schema inside a schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in everywhere(part)]
    if not isinstance(schema, dict):
        return []
    inner = [found for part in schema.values() for found in everywhere(part)]
    return [schema, *inner] if "properties" in schema else inner


@pytest.mark.parametrize("name", ["event.schema.json", "manifest.schema.json"])
def test_the_schema_is_closed_so_that_a_typing_error_shows(name: str):
    objects = everywhere(json.loads((ROOT / "docs" / name).read_text("utf-8")))
    assert len(objects) > 5
    assert all(found.get("additionalProperties") is False for found in objects)


@pytest.mark.parametrize(
    "change",
    [{"seq": -1}, {"kind": "rumour"}, {"clock": "sun"}, {"surprise": 1}, {"dropped": {"lost": 1}}],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_the_event_schema_refuses_what_the_code_refuses(lines: list[str], change: dict[str, Any]):
    event = json.loads(lines[0])
    checked = validator("event.schema.json")
    assert checked.is_valid(event)
    assert not checked.is_valid(event | change)


def test_every_field_of_an_event_is_promised(lines: list[str]):
    checked = validator("event.schema.json")
    event = json.loads(lines[0])
    for name in event:
        assert not checked.is_valid({k: v for k, v in event.items() if k != name}), name


def test_the_manifest_of_nano_keeps_its_schema(nano: Bundle):
    checked = validator("manifest.schema.json")
    manifest = json.loads((nano.root / "manifest.json").read_text("utf-8"))
    assert [error.message for error in checked.iter_errors(manifest)] == []
    assert not checked.is_valid(manifest | {"format_version": 2})
    assert not checked.is_valid({k: v for k, v in manifest.items() if k != "memory"})
