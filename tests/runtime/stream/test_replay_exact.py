"""A replay gives the recorded events again: every kind, both ends of states, a loaded source."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgevlm.event import AnswerEvent, Event, FaultEvent, StateEvent
from edgevlm.frame import FrameItem, SourceFault
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.recording.format import read_header
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.recording.recorder import Recorder
from edgevlm.runtime.stream.recording.replay import replay_config
from edgevlm.runtime.stream.run import _delivered
from edgevlm.runtime.stream.sinks import Sinks
from tests.runtime.stream.conftest import ManualClock
from tests.runtime.stream.live import LiveByClock, Nothing
from tests.runtime.stream.test_freshness import frame

# What may differ: clocks, timings, backend, and a random id of a state.
LOAD = {"age_ms", "timings_ms", "backend", "stages_ms", "answers_per_s", "peak_rss_mb", "state_id"}
RULES = [
    {"name": "middle", "when": ["frame >= 5"], "until": ["frame >= 12"]},
    {"name": "slow to come", "when": ["finish_reason = stop"], "for_s": 0.5, "clear_s": 1},
]


def script() -> list[tuple[float, Callable[[], FrameItem]]]:
    """Two seconds at ten a second: scenes that change, a damaged frame, a stall and its end."""
    levels = [50, 50, 90, 90, None, 200, 200, 200, 30, 30, 30, 160, 160, 160, 160, 70, 70, 70, 70]
    items = [(n / 10, frame(n, n / 10, level)) for n, level in enumerate(levels)]
    for at_s, code in ((0.75, "stall"), (0.85, "recovered")):
        items.append((at_s, lambda code=code: SourceFault(code=code, message=f"camera: {code}")))
    return sorted(items, key=lambda item: item[0])


def told(events: list[Event]) -> list[dict]:
    bodies = [event.model_dump(mode="json") for event in events]
    return [{k: v for k, v in body.items() if k not in LOAD} for body in bodies]


@pytest.mark.parametrize("step_s", [0.01, 0.12])
def test_a_live_stream_under_load_is_told_again_to_the_letter(
    tmp_path, config, scripted, nano, step_s
):
    clock = ManualClock()
    words = (28120, nano.manifest.prompt.stop_token_ids[0])
    settings = config(rules=RULES, policy={"reuse_every_s": 0.2}, generation={"draft": False})
    model = scripted(words, before_step=lambda: clock.advance(step_s))
    recorder = Recorder(tmp_path / "r", settings, model.bundle.manifest, live=True)
    sinks = Sinks([recorder])
    between = LiveByClock(clock, script())
    stream = Stream(
        settings, Nothing(), model, clock, watcher=sinks, hand_over=lambda *_: between
    )  # fmt: skip
    recorded = list(_delivered(stream, sinks))
    recorder.close()

    past = Nothing()
    header = read_header(tmp_path / "r")
    again = Stream(
        replay_config(header, {"bundle": "-"}), past, scripted(words), ManualClock(),
        playback=lambda account: Playback(tmp_path / "r", account),
    )  # fmt: skip
    assert told(list(again.events())) == told(recorded)

    phases = [(e.rule, e.phase) for e in recorded if isinstance(e, StateEvent)]
    assert ("middle", "begin") in phases
    assert ("middle", "end") in phases
    assert ("slow to come", "begin") in phases
    said = [e.code for e in recorded if isinstance(e, FaultEvent)]
    assert said[-2:] == ["stall", "recovered"]
    assert any(isinstance(e, AnswerEvent) and e.reused for e in recorded)
    dropped = recorded[-1].frames.dropped
    if step_s < 0.1:
        assert (said[0], dropped) == ("damaged", {"undecodable": 1})
    else:
        assert dropped["superseded"] > 3
