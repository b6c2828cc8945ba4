"""Every preset in ``configs/`` runs as it is, but for source, folder of the model, and a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.box import BoxConfig, load_settings
from edgevlm.bundle import Bundle
from edgevlm.config import load_config
from edgevlm.event import AnswerEvent, SummaryEvent
from edgevlm.runtime.stream.run import run
from edgevlm.runtime.stream.sources.uri import scheme_of

ROOT = Path(__file__).parent.parent
BOXES = ["four-cameras.toml"]
PRESETS = sorted(p.name for p in (ROOT / "configs").glob("*.toml") if p.name not in BOXES)
# What stands in for hardware and logs that are not here.
SUBSTITUTES = {
    "demo.toml": f"{ROOT}/configs/assets/sample.mp4",
    "webcam.toml": "synthetic:?seed=1&fps=10&frames=20&size=320x240",
    "camera-watch.toml": "synthetic:?seed=2&fps=10&frames=20&size=320x240",
    "inspection.toml": f"{ROOT}/configs/assets/sample.mp4",
    "robot-log.toml": f"{ROOT}/configs/assets/sample.mp4",
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_runs(name: str, nano: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = [
        f'bundle="{nano.root}"',
        f"source.uri={SUBSTITUTES[name]}",
        f"source.realtime={str(name in ('webcam.toml', 'camera-watch.toml')).lower()}",
        "limits.frames=5",
        "engine.threads=2",
    ]
    events = list(run(ROOT / "configs" / name, settings))
    summary = events[-1]
    assert isinstance(summary, SummaryEvent)
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert answers
    config = load_config(ROOT / "configs" / name)
    if config.generation.schema_ is not None:
        wanted = set(config.generation.schema_["properties"])
        whole = [e for e in answers if e.finish_reason == "stop"]
        assert whole
        assert all(set(e.answer or {}) == wanted for e in whole)
    for sink in config.sinks:
        assert (tmp_path / sink.partition(":")[2].partition("?")[0]).stat().st_size > 0


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_a_source_that_there_is(name: str):
    uri = load_config(ROOT / "configs" / name).source.uri
    assert uri == "0" or scheme_of(uri) in ("rtsp", "mcap") or not uri.startswith("/")


def test_the_box_runs_its_cameras_on_one_model(
    nano: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    preset = ROOT / "configs" / "four-cameras.toml"
    box = load_settings(preset)
    assert isinstance(box, BoxConfig)
    settings = [f'bundle="{nano.root}"', "limits.frames=12", "engine.threads=2", "overcommit=true"]
    for seed, stream in enumerate(box.streams):
        uri = f"synthetic:?seed={seed}&fps=10&frames=20&size=320x240"
        settings += [
            f"streams.{stream.name}.source.uri={uri}",
            f"streams.{stream.name}.source.realtime=true",
            f"streams.{stream.name}.policy.max_age_s=60",  # this machine may be busy
        ]
    events = list(run(preset, settings))
    last = events[-1]
    assert isinstance(last, SummaryEvent)
    assert set(last.streams) == {"door", "yard", "garage", "street"}
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert {e.stream for e in answers} == set(last.streams)
    door = next(e for e in answers if e.stream == "door" and e.finish_reason == "stop")
    assert set(door.answer or {}) == {"person", "door"}
    assert (tmp_path / "box.db").stat().st_size > 0


def test_the_box_names_sources_that_there_are():
    box = load_settings(ROOT / "configs" / "four-cameras.toml")
    assert isinstance(box, BoxConfig)
    assert {scheme_of(stream.source.uri) for stream in box.streams} == {"rtsp"}
