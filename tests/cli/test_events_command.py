from __future__ import annotations

import json

from PIL import Image

from edgevlm.runtime.stream.sinks import open_sinks
from tests.runtime.stream.told import fault, told


def fill(path) -> None:
    with open_sinks([f"sqlite:{path}"]) as (store,):
        for item in (told(0), told(1, "a dog", at_s=60, answer={"person": True}), fault(2)):
            store.write(item)


def test_events_are_printed_one_object_a_line_with_their_ids(edgevlm, tmp_path):
    fill(tmp_path / "events.db")
    done = edgevlm("events", "events.db", "--since", "2026-01-01T00:00:30Z")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2]
    assert lines[0]["id"].endswith("/main/1")
    assert lines[0]["text"] == "a dog"


def test_events_by_condition_with_their_pictures(edgevlm, tmp_path):
    fill(tmp_path / "events.db")
    done = edgevlm(
        "events", "events.db", "--where", "answer.person = true", "--kind", "answer",
        "--thumbnails", "pictures",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    name = json.loads(line)["id"].replace("/", "-")
    with Image.open(tmp_path / "pictures" / f"{name}.jpg") as picture:
        assert picture.size == (160, 90)


def test_bad_conditions_and_missing_stores(edgevlm, tmp_path):
    missing = edgevlm("events", "events.db")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "--sink sqlite:events.db" in missing.stderr
    fill(tmp_path / "events.db")
    bad = edgevlm("events", "events.db", "--where", "person")
    assert bad.returncode == 2
    assert "FIELD OP VALUE" in bad.stderr
