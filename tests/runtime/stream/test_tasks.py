"""Streams with a task: the same events, gates and books, and what was found in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgevlm
from benchmarks.drawn_part import SCREW, part
from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.config import make_config
from edgevlm.errors import BankError, ContractError
from edgevlm.frame import Frame
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.anomaly import teach_normal
from edgevlm.runtime.perception.locate import overlap
from edgevlm.runtime.perception.teach_thing import Shot, teach_thing
from edgevlm.runtime.stream.asking import in_frame
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.sources import open_source
from tests.runtime.perception.stickers import scene, shots


@pytest.fixture(scope="module")
def model(nano: Bundle) -> Iterator[Vlm]:
    """The built-in model, which teaches."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded


def folder(path: Path, pictures: list[Any]) -> str:
    """Pictures as the frames of a source."""
    path.mkdir()
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{n:03}.png")
    return str(path)


def events(nano: Bundle, source: str, task: dict[str, Any], **more: Any) -> list[Any]:
    """All of a run."""
    engine = {"threads": 2, "spin": False}
    raw = {"bundle": str(nano.root), "source": {"uri": source}, "task": task, "engine": engine}
    return list(edgevlm.run(make_config({**raw, **more})))


def test_things_are_located_frame_by_frame_and_a_still_scene_keeps_its_boxes(
    tmp_path: Path, nano: Bundle, model: Vlm
):
    taught = [Shot(image=i, box_xyxy=b) for i, b in shots("cat", 2)]
    teach_thing(model, "cat", taught).save(tmp_path / "cat.npz")
    here, (box,) = scene([("cat", 300, 30, 140)])
    gone, _ = scene([("rocket", 60, 190, 150)], seed=1)
    source = folder(tmp_path / "frames", [here, here, gone])
    task = {"kind": "locate", "banks": [str(tmp_path / "cat.npz")]}
    policy = {"reuse_every_s": 0.0}
    first, again, last, summary = events(nano, source, task, policy=policy)
    assert [e.kind for e in (first, again, last)] == ["detection"] * 3
    assert [e.question for e in (first, again, last)] == ["locate"] * 3
    assert overlap(first.boxes_xyxy[0], box) > 0.6
    assert first.answer["things"][0]["thing"] == "cat"
    assert first.text == "Seen: cat top right."
    assert (again.reused, again.of) == (True, first.seq)
    assert again.boxes_xyxy == first.boxes_xyxy
    assert (last.boxes_xyxy, last.answer) == ((), {"things": []})
    assert last.text == "None of the known things is here."
    assert (summary.frames.read, summary.frames.answered, summary.frames.reused) == (3, 2, 1)
    assert first.tokens.output == 0
    assert first.timings_ms.encode > 0


def test_anomalies_are_events_of_their_kind_and_feed_rules(
    tmp_path: Path, nano: Bundle, model: Vlm
):
    teach_normal(model, [part(n) for n in range(3)], fixed=True).save(tmp_path / "part.npz")
    source = folder(tmp_path / "frames", [part(50), part(51, screw=False)])
    task = {"kind": "anomaly", "banks": [str(tmp_path / "part.npz")]}
    rules = [{"name": "fault", "when": ["answer.unlike = true"]}]
    good, bad, state, _ = events(nano, source, task, policy={"gate": False}, rules=rules)
    assert [good.kind, bad.kind, state.kind] == ["anomaly", "anomaly", "state"]
    assert (good.answer["unlike"], good.boxes_xyxy) == (False, ())
    assert bad.answer["unlike"]
    assert overlap(bad.boxes_xyxy[0], tuple(map(float, SCREW))) > 0.1
    assert (state.rule, state.phase, state.evidence) == ("fault", "begin", (bad.seq,))
    small = folder(tmp_path / "small", [np.ascontiguousarray(part(50)[::2, ::2])])
    with pytest.raises(ContractError, match="this bank is of a fixed camera"):
        events(nano, small, task)


def test_boxes_are_in_pixels_of_the_frame_though_a_smaller_one_was_looked_at(tmp_path: Path):
    Image.new("RGB", (480, 360)).save(tmp_path / "0.png")
    (frame,) = open_source(str(tmp_path)).frames()
    assert isinstance(frame, Frame)
    view = View(frame, 0.0, encode=lambda _: Encoded(segments=()))
    made = Answer(
        text="", token_ids=(), finish_reason="stop", timings_ms=Timing(), tokens=TokenCounts(),
        backend="x", boxes_xyxy=((10.0, 20.0, 30.0, 40.0),),
    )  # fmt: skip
    smaller = np.zeros((180, 160, 3), np.uint8)
    for shown in (smaller, Encoded(segments=(), source=(180, 160))):
        assert in_frame(made, shown, view).boxes_xyxy == ((30.0, 40.0, 90.0, 80.0),)


def test_what_a_task_lacks_is_said_before_a_frame_is_read(
    tmp_path: Path, nano: Bundle, capsys: pytest.CaptureFixture[str]
):
    source = folder(tmp_path / "frames", [part(1)])
    with pytest.raises(BankError, match="there is no bank"):
        events(nano, source, {"kind": "locate", "banks": [str(tmp_path / "none.npz")]})
    words = ["run", "--bundle", str(nano.root), "--source", source]
    assert run_command([*words, "--task", "locate"]) == 2
    assert "locate takes a bank" in capsys.readouterr().err
    assert run_command([*words, "--task", "locate", "--ask", "x", "--bank", "b"]) == 2
    assert "not both" in capsys.readouterr().err
    assert run_command(words) == 2
    assert "run needs --ask" in capsys.readouterr().err


def test_the_command_prints_the_same_events(
    tmp_path: Path, nano: Bundle, model: Vlm, capsys: pytest.CaptureFixture[str]
):
    taught = [Shot(image=i, box_xyxy=b) for i, b in shots("cup", 1)]
    teach_thing(model, "cup", taught).save(tmp_path / "cup.npz")
    source = folder(tmp_path / "frames", [scene([("cup", 250, 100, 150)])[0]])
    words = ["run", "--bundle", str(nano.root), "--source", source, "--task", "locate"]
    assert run_command([*words, "--bank", str(tmp_path), "--threads", "2"]) == 0
    told, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["kind"] == "detection"
    assert [one["thing"] for one in told["answer"]["things"]] == ["cup"]
    assert len(told["boxes_xyxy"]) == 1
    assert summary["frames"]["answered"] == 1
