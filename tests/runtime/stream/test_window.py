"""A window of time in a stream: what the model is shown, what that costs, what stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevlm.config import RunConfig, WindowSection, make_config
from edgevlm.errors import ConfigError
from edgevlm.event import AnswerEvent
from edgevlm.frame import ArrayPixels, Frame, FrameItem
from edgevlm.runtime.model.vision import VisionEncoder
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.lease import Sole
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.window import Window
from tests.runtime.stream.conftest import ManualClock

ASK = "What happened?"


class Pictures:
    """Frames of given pictures at given times. Not live."""

    name = "pictures"
    live = False

    def __init__(self, frames: list[tuple[float, np.ndarray]]) -> None:
        self._frames = frames

    def frames(self) -> Iterator[FrameItem]:
        for index, (at_s, picture) in enumerate(self._frames):
            yield frame(index, picture, at_s)

    def close(self) -> None:
        pass


def frame(index: int, picture: np.ndarray, at_s: float) -> Frame:
    pixels = ArrayPixels(picture)
    return Frame(index=index, pixels=pixels, captured_ns=0, monotonic_ns=0, media_s=at_s)


def scene(level: int) -> np.ndarray:
    """Stripes whose direction and brightness go with ``level``."""
    plane = np.add.outer(np.arange(72) * (level % 5), np.arange(128) * (level % 7))
    return np.repeat(((plane + 40 * level) % 256).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def answers(
    model: Vlm, clock: ManualClock, config: Callable[..., RunConfig]
) -> Callable[..., list[AnswerEvent]]:
    """Answers of nano about pictures at given times."""

    def run(frames: list[tuple[float, np.ndarray]], **sections: object) -> list[AnswerEvent]:
        settings = config(
            ask=ASK, generation={"max_tokens": 4}, **{"window": {"seconds": 8}, **sections}
        )
        events = Stream(settings, Pictures(frames), model, clock).events()
        return [event for event in events if isinstance(event, AnswerEvent)]

    return run


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts passes of the vision encoder."""
    passes: list[int] = []
    plain = VisionEncoder.encode

    def counted(self: VisionEncoder, *arguments: object) -> object:
        passes.append(1)
        return plain(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(VisionEncoder, "encode", counted)
    return passes


def test_the_event_says_which_frames_were_shown_how_old_and_for_how_many_tokens(
    answers: Callable[..., list[AnswerEvent]], encoded: list[int]
):
    told = answers([(0.0, scene(1)), (2.0, scene(2)), (5.5, scene(3))])
    shown = [[(w.frame, w.age_s, w.tokens) for w in event.window] for event in told]
    assert shown == [
        [(0, 0.0, 16)],
        [(0, 2.0, 16), (1, 0.0, 16)],
        [(0, 5.5, 4), (1, 3.5, 4), (2, 0.0, 16)],
    ]
    assert [event.tokens.visual for event in told] == [16, 32, 24]
    assert len(encoded) == 3  # no frame twice
    assert all(event.timings_ms.encode > 0 for event in told)


def test_the_answer_is_that_to_the_same_frames_asked_by_hand(
    answers: Callable[..., list[AnswerEvent]], model: Vlm
):
    told = answers([(0.0, scene(1)), (2.0, scene(2))])
    first, second = model.encode(scene(1)), model.encode(scene(2))
    content = [
        {"type": "text", "text": "2.0 s ago: "},
        {"type": "image", "image": first},
        {"type": "text", "text": "\nNow: "},
        {"type": "image", "image": second},
        {"type": "text", "text": f"\n{ASK}"},
    ]
    wanted = model.ask(messages=[{"role": "user", "content": content}], max_tokens=4)
    assert told[-1].text == wanted.text
    assert told[-1].tokens.prompt == wanted.tokens.prompt
    content[1] = {"type": "image", "image": scene(1)}
    content[3] = {"type": "image", "image": scene(2)}
    plain = model.ask(messages=[{"role": "user", "content": content}], max_tokens=4)
    assert plain.token_ids == wanted.token_ids
    assert wanted.timings_ms.encode == 0.0 < plain.timings_ms.encode


def test_frames_that_are_too_old_are_not_shown(answers: Callable[..., list[AnswerEvent]]):
    told = answers([(0.0, scene(1)), (4.0, scene(2)), (9.0, scene(3)), (40.0, scene(4))])
    assert [[w.frame for w in event.window] for event in told] == [[0], [0, 1], [1, 2], [3]]


def test_an_unchanged_scene_is_one_frame_that_stood(answers: Callable[..., list[AnswerEvent]]):
    frames = [(float(n), scene(1)) for n in range(12)] + [(12.0, scene(2))]
    told = answers(frames, policy={"reuse_every_s": 1000})
    assert [(w.frame, w.age_s, w.stood_s) for w in told[-1].window] == [(0, 12, 11), (12, 0, 0)]


def test_an_answer_stands_only_as_long_as_what_it_was_shown(
    answers: Callable[..., list[AnswerEvent]],
):
    """The scene is still from 1 s on, and what was before leaves the window behind 8 s."""
    frames = [(0.0, scene(1))] + [(float(n), scene(2)) for n in range(1, 14)]
    told = answers(frames, policy={"reuse_every_s": 0})
    fresh = [(event.frame, [w.frame for w in event.window]) for event in told if not event.reused]
    assert fresh == [(0, [0]), (1, [0, 1]), (9, [1, 9])]
    assert all(event.window == () for event in told if event.reused)


def test_a_frame_whose_answer_nobody_got_leaves_the_window(model: Vlm):
    window = Window(WindowSection(seconds=8), ASK)
    window.ask(model, 0, model.encode(scene(1), 2), 0.0)
    window.keep()
    window.keep()  # there is nothing more to keep
    window.ask(model, 1, model.encode(scene(2), 2), 1.0)
    asked = window.ask(model, 2, model.encode(scene(3), 2), 2.0)
    assert [shown.frame for shown in asked.shown] == [0, 2]


def test_memory_is_bounded_however_many_frames_come(model: Vlm):
    window = Window(WindowSection(seconds=1000), ASK)
    for n in range(70):
        window.ask(model, n, model.encode(scene(n), 2), float(n))
        window.keep()
    assert len(window._seen) == 32
    assert window._seen[-1].index == 69


def test_time_that_jumps_back_empties_the_window(model: Vlm):
    window = Window(WindowSection(seconds=8), ASK)
    window.ask(model, 0, model.encode(scene(1), 2), 100.0)
    window.keep()
    asked = window.ask(model, 1, model.encode(scene(2), 2), 3.0)
    assert [shown.frame for shown in asked.shown] == [1]


def test_a_question_that_names_a_class_chooses_the_frames_that_show_it(
    model: Vlm, photograph: Callable[[str], Path]
):
    """A cat among plain scenes; without the word, the frames that changed most come first."""
    from PIL import Image

    cat = np.asarray(Image.open(photograph("chelsea.png")).convert("RGB"))
    pictures = [scene(1), cat, scene(2), scene(3), scene(4), scene(5)]

    def shown(question: str) -> list[int]:
        window = Window(WindowSection(seconds=60, frames=2), question)
        for n, picture in enumerate(pictures):
            asked = window.ask(model, n, model.encode(picture, 2), float(n))
            window.keep()
        return [one.frame for one in asked.shown]

    assert shown("Was there a cat?") == [1, 5]
    assert model.relevance([model.encode(cat)], "What time is it?") is None


def test_a_frame_stays_the_same_whether_it_is_shown_alone_or_among_others(model: Vlm):
    alone, among = model.encode(scene(3)), model.encode(scene(3), among=2)
    np.testing.assert_array_equal(alone.tokens, among.tokens)


@pytest.mark.parametrize(
    ("given", "seconds"), [(8, 8.0), ("8", 8.0), ("8s", 8.0), (" 1.5 m", 90.0)]
)
def test_seconds_may_have_a_unit(given: object, seconds: float):
    raw = {"bundle": "-", "ask": "?", "source": {"uri": "-"}, "window": {"seconds": given}}
    window = make_config(raw).window
    assert window is not None
    assert window.seconds == seconds


@pytest.mark.parametrize("given", ["8 hours", "-3s", 0, "", "s"])
def test_other_lengths_are_refused(given: object):
    raw = {"bundle": "-", "ask": "?", "source": {"uri": "-"}, "window": {"seconds": given}}
    with pytest.raises(ConfigError, match=r"window\.seconds"):
        make_config(raw)


def test_a_budget_under_one_frame_ends_the_run(answers: Callable[..., list[AnswerEvent]]):
    with pytest.raises(ConfigError, match=r"window\.tokens = 3"):
        answers([(0.0, scene(1))], window={"seconds": 8, "tokens": 3})


def test_frames_that_stay_in_the_cache_are_seen_once_and_leave_when_they_are_old(
    answers: Callable[..., list[AnswerEvent]], encoded: list[int]
):
    frames = [(2.0 * n, scene(n + 1)) for n in range(8)]
    told = answers(frames, window={"seconds": 5, "memory": "cache"})
    shown = [[w.frame for w in event.window] for event in told]
    assert shown == [[0], [0, 1], *([n - 2, n - 1, n] for n in range(2, 8))]
    assert [(w.age_s, w.tokens) for w in told[-1].window] == [(4, 16), (2, 16), (0, 16)]
    assert len(encoded) == 8
    assert told[-1].tokens.visual == 48
    assert max(event.tokens.prompt for event in told) < 400  # not a prompt of eight frames


def test_the_cache_answers_as_a_session_that_is_asked_by_hand(
    answers: Callable[..., list[AnswerEvent]], model: Vlm
):
    told = answers([(0.0, scene(1)), (2.0, scene(2))], window={"seconds": 5, "memory": "cache"})
    session = model.session(None, 0)
    session.see(scene(1), "\n0.0 s: ")
    session.see(scene(2), "\n2.0 s: ")
    wanted = session.ask(f"\n{ASK}", max_tokens=4)
    assert told[-1].text == wanted.text
    assert told[-1].tokens.prompt == wanted.tokens.prompt


def test_tokens_bound_what_stays_in_the_cache(answers: Callable[..., list[AnswerEvent]]):
    frames = [(float(n), scene(n + 1)) for n in range(6)]
    told = answers(frames, window={"seconds": 60, "memory": "cache", "tokens": 150})
    most = max(len(event.window) for event in told)
    assert 1 < most < 6
    assert [w.frame for w in told[-1].window] == list(range(6 - len(told[-1].window), 6))


def test_a_cache_of_many_streams_remembers_nobodys_frames(
    config: Callable[..., RunConfig], model: Vlm, clock: ManualClock
):
    class Shared(Sole):
        shared = True

    settings = config(window={"seconds": 5, "memory": "cache"})
    with pytest.raises(ConfigError, match="is for one stream"):
        Stream(settings, Pictures([]), model, clock, lease=Shared())
