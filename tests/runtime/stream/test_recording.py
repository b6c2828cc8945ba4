from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevlm.bundle import Bundle
from edgevlm.errors import ConfigError, SinkError, SourceError
from edgevlm.event import AnswerEvent, StateEvent
from edgevlm.frame import ArrayPixels, BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.diff import compare
from edgevlm.runtime.stream.recording.format import picture_path, read_events, read_header
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.recording.recorder import Recorder
from edgevlm.runtime.stream.recording.replay import replay, replay_config
from edgevlm.runtime.stream.recording.sheet import contact_sheet
from edgevlm.runtime.stream.run import _delivered
from edgevlm.runtime.stream.sinks import Sinks

LOAD = {"age_ms", "timings_ms", "backend", "stages_ms", "answers_per_s", "peak_rss_mb"}


class Scenes:
    """Noise pictures: every entry is a scene's number, None a damaged frame, a text a fault."""

    name = "scenes"
    live = False

    def __init__(self, scenes, clock) -> None:
        self._scenes = scenes
        self._clock = clock

    def frames(self):
        for index, scene in enumerate(self._scenes):
            self._clock.advance(0.1)
            if scene is None:
                yield BadFrame(index=index, reason="damaged on purpose")
            elif isinstance(scene, str):
                yield SourceFault(code="stall", message=scene)
            else:
                rng = np.random.default_rng(scene)
                picture = rng.integers(0, 255, (36, 64, 3), np.uint8).repeat(2, 0).repeat(2, 1)
                yield Frame(
                    index=index,
                    pixels=ArrayPixels(picture),
                    captured_ns=self._clock.wall_ns(),
                    monotonic_ns=self._clock.monotonic_ns(),
                    media_s=index / 10,
                    frame_id="camera",
                )

    def close(self) -> None:
        pass


SCENES = [1, 1, 1, None, 2, "no frames", 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]


def without_load(body: dict) -> dict:
    return {key: value for key, value in body.items() if key not in LOAD and key != "state_id"}


@pytest.fixture
def record(tmp_path: Path, config, clock, scripted) -> Callable[..., list]:
    """Record a run of scenes into ``tmp_path / 'recorded'`` and give its events."""

    def run(scenes=SCENES, model=None, **sections) -> list:
        settings = config(**sections)
        model = model or scripted()
        recorder = Recorder(tmp_path / "recorded", settings, model.bundle.manifest, live=False)
        sinks = Sinks([recorder])
        stream = Stream(settings, Scenes(scenes, clock), model, clock, watcher=sinks)
        events = list(_delivered(stream, sinks))
        recorder.close()
        return events

    return run


def played(folder: Path, model, clock, **changes) -> list:
    header = read_header(folder)
    stream = Stream(
        replay_config(header, {"bundle": "-", **changes}),
        Scenes([], clock),
        model,
        clock,
        playback=lambda account: Playback(folder, account),
    )
    return list(stream.events())


def test_the_same_model_gives_the_same_events(record, tmp_path, clock, scripted):
    rules = [{"name": "calm", "when": ["finish_reason = stop"], "for_s": 0.5}]
    events = record(rules=rules, policy={"rate_hz": 5, "reuse_every_s": 0.4})
    again = played(tmp_path / "recorded", scripted(), clock)
    assert [without_load(e.model_dump(mode="json")) for e in again] == [
        without_load(e.model_dump(mode="json")) for e in events
    ]
    kinds = {e.kind for e in events}
    assert kinds == {"answer", "state", "fault", "summary"}
    assert events[-1].frames.dropped["sampled"] > 0
    assert events[-1].frames.dropped["undecodable"] > 0
    assert events[-1].gates["main"][0].stopped > 0
    assert any(isinstance(e, AnswerEvent) and e.reused for e in events)


def test_frames_that_gates_dropped_are_dropped_again_and_no_gate_is_asked(
    record, tmp_path, clock, scripted
):
    gates = [
        {"kind": "silence", "every_s": 0.5},
        {"kind": "motion", "still_s": 0.2},
        {"kind": "pixel"},
    ]
    scenes = [1, 1, 1, 1, 2, 3, 4, 4, 4, 4, None, 4, 5, 5, 5, 5, 5, 5, 5, 5]
    events = record(scenes, gates=gates, policy={"reuse_every_s": 0})
    again = played(tmp_path / "recorded", scripted(), clock)
    assert [without_load(e.model_dump(mode="json")) for e in again] == [
        without_load(e.model_dump(mode="json")) for e in events
    ]
    summary = again[-1]
    assert summary.frames.dropped["moving"] > 3
    assert [t.name for t in summary.gates["main"]] == ["silence", "motion", "pixel"]
    assert summary.gates["main"][0].due > 0
    assert summary.gates["main"][1].stopped == summary.frames.dropped["moving"]


def test_the_recorded_events_are_those_that_were_told(record, tmp_path):
    events = record()
    assert list(read_events(tmp_path / "recorded")) == [e.model_dump(mode="json") for e in events]


def test_only_frames_that_were_asked_about_are_kept_without_loss(record, tmp_path):
    events = record()
    asked = [e.frame for e in events if isinstance(e, AnswerEvent) and not e.reused]
    kept = sorted((tmp_path / "recorded" / "frames").iterdir())
    assert kept == [picture_path(tmp_path / "recorded", n) for n in asked]
    expected = np.random.default_rng(1).integers(0, 255, (36, 64, 3), np.uint8)
    with Image.open(kept[0]) as picture:
        assert np.array_equal(np.asarray(picture)[::2, ::2], expected)


def test_another_model_is_told_apart_answer_by_answer(record, tmp_path, clock, scripted):
    events = record(rules=[{"name": "calm", "when": ["finish_reason = stop"]}])
    other = scripted((260, 284, 253, 2))
    again = played(tmp_path / "recorded", other, clock)
    diff = compare(
        [e.model_dump(mode="json") for e in events], [e.model_dump(mode="json") for e in again]
    )
    assert len(diff.pairs) == len(diff.changed) == 3
    assert diff.changed[0].before["text"] != diff.changed[0].after["text"]
    assert (diff.states_gone, diff.states_new) == ((), ())
    sheet = contact_sheet(tmp_path / "recorded", diff.changed)
    box = np.asarray(sheet)[10:250, 10:410]
    assert (box != 255).mean() > 0.3  # the first frame is on it


def test_fields_of_answers_by_schema_that_differ_are_named():
    event = {"kind": "answer", "reused": False, "media_s": 1.0, "finish_reason": "stop"}
    before = {**event, "frame": 3, "text": "{}", "answer": {"a": 1, "b": 2, "gone": None}}
    after = {**event, "frame": 3, "text": "{}", "answer": {"a": 1, "b": 3, "new": 0}}
    diff = compare([before], [after, {**after, "frame": 9}])
    assert diff.changed[0].fields == ("b", "gone", "new")
    assert diff.changed[1].before is None


def test_a_rule_may_change_between_recording_and_replay(record, tmp_path, clock, scripted):
    record()
    rules = [{"name": "calm", "when": ["finish_reason = stop"]}]
    again = played(tmp_path / "recorded", scripted(), clock, rules=rules)
    assert [e.phase for e in again if isinstance(e, StateEvent)] == ["begin"]


def test_credentials_of_the_source_are_not_recorded(config, scripted, tmp_path):
    settings = config(source={"uri": "rtsp://user:canary@camera/1"})
    Recorder(tmp_path / "r", settings, scripted().bundle.manifest, live=True).close()
    assert "canary" not in (tmp_path / "r" / "recording.json").read_text()
    assert read_header(tmp_path / "r").settings().source.uri.endswith("@camera/1")


def test_a_full_disk_ends_the_recording_and_not_the_run(config, clock, scripted, tmp_path):
    settings, model = config(), scripted()
    recorder = Recorder(tmp_path / "r", settings, model.bundle.manifest, live=False)
    sinks = Sinks([recorder])
    stream = Stream(settings, Scenes([1, 2, 3, 4], clock), model, clock, watcher=sinks)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    events = []
    try:
        for event in _delivered(stream, sinks):
            events.append(event)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    recorder.close()
    assert [e.kind for e in events] == ["answer", "answer", "fault", "answer", "answer", "summary"]
    assert "the recording ends here" in events[2].message
    again = played(tmp_path / "r", scripted(), clock)
    assert [e.frame for e in again if e.kind == "answer"] == [0]  # what was whole is readable


def test_a_folder_that_holds_something_is_refused(config, scripted, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.txt").write_text("")
    with pytest.raises(SinkError, match="not empty"):
        Recorder(tmp_path / "r", config(), scripted().bundle.manifest, live=False)


def test_damaged_recordings(record, tmp_path, clock, scripted):
    folder = tmp_path / "recorded"
    with pytest.raises(SourceError, match="is no recording"):
        read_header(tmp_path / "nowhere")
    record()
    with (folder / "decisions.jsonl").open("ab") as file:
        file.write(b'{"do": "ans')  # the power went
    assert len(played(folder, scripted(), clock)) > 3
    picture_path(folder, 0).write_bytes(b"no picture")
    with pytest.raises(SourceError, match="cannot be read"):
        played(folder, scripted(), clock)
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    (folder / "decisions.jsonl").write_text('{"do": "dance"}\n' + "\n".join(lines) + "\n")
    with pytest.raises(SourceError, match="line 1"):
        played(folder, scripted(), clock)
    header = json.loads((folder / "recording.json").read_text())
    (folder / "recording.json").write_text(json.dumps({**header, "version": 2}))
    with pytest.raises(SourceError, match="version"):
        read_header(folder)


def test_a_replay_that_cannot_be(record, tmp_path):
    record()
    with pytest.raises(ConfigError, match="colour"):
        replay_config(read_header(tmp_path / "recorded"), {"bundle": "b", "colour": 1})


def test_the_real_model_repeats_itself(nano: Bundle, tmp_path, photograph):
    from edgevlm.runtime.stream.run import run

    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, name in enumerate(["astronaut.png", "astronaut.png", "coffee.png"]):
        with Image.open(photograph(name)) as picture:
            picture.convert("RGB").resize((320, 240)).save(folder / f"{n}.png")
    settings = {
        "bundle": str(nano.root),
        "ask": "What is it?",
        "source": {"uri": str(folder)},
        "generation": {"max_tokens": 6},
        "record": str(tmp_path / "recorded"),
    }
    from edgevlm.config import make_config

    events = list(run(make_config(settings)))
    config = replay_config(read_header(tmp_path / "recorded"), {"bundle": str(nano.root)})
    again = list(replay(tmp_path / "recorded", config))
    assert [without_load(e.model_dump(mode="json")) for e in again] == [
        without_load(e.model_dump(mode="json")) for e in events
    ]
