from __future__ import annotations

import json

import numpy as np
from PIL import Image

from edgevlm.frame import ArrayPixels, Frame
from edgevlm.runtime.stream.sinks import Told, open_sinks
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


def test_frames_like_a_picture_come_best_first_with_a_sheet(edgevlm, tmp_path, nano):
    path = tmp_path / "events.db"
    with open_sinks([f"sqlite:{path}?embed={nano.root}"]) as (store,):
        for seq, level in enumerate((20, 240, 130)):
            picture = np.full((90, 160, 3), level, np.uint8)
            picture[20:70, 40 + 20 * seq : 90 + 20 * seq] = 255 - level
            event = told(seq, at_s=seq).event
            frame = Frame(
                index=seq, pixels=ArrayPixels(picture), captured_ns=0, monotonic_ns=0
            )  # fmt: skip
            store.write(Told(event, frame))
    Image.fromarray(picture).save(tmp_path / "like.png")
    done = edgevlm("events", "events.db", "--like-image", "like.png", "-o", "sheet.png")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["seq"] == 2
    scores = [line["similarity"] for line in lines]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert "3 of 3 pictures are on sheet.png" in done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 200 + 8, 8 + 252 + 8)
    refused = edgevlm("events", "events.db", "--like", "a red car")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no text encoder" in refused.stderr
    both = edgevlm("events", "events.db", "--like", "a", "--like-image", "like.png")
    assert both.returncode == 2
    alone = edgevlm("events", "events.db", "--bundle", "somewhere")
    assert alone.returncode == 2


def test_bad_conditions_and_missing_stores(edgevlm, tmp_path):
    missing = edgevlm("events", "events.db")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "--sink sqlite:events.db" in missing.stderr
    fill(tmp_path / "events.db")
    bad = edgevlm("events", "events.db", "--where", "person")
    assert bad.returncode == 2
    assert "FIELD OP VALUE" in bad.stderr
