from __future__ import annotations

import threading

import pytest

from edgevlm.runtime.stream.sources.arrival import Pace, Timeline
from edgevlm.runtime.stream.sources.native import Native


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([7.0, 7.1, 7.3], [0, 0.1, 0.3]),
        ([-0.5, 0.0], [0, 0.5]),
        ([None, None, None], [0, 0.1, 0.2]),
        ([None, 4.0, 4.2], [0, 0.1, 0.3]),
        ([4.0, None, 4.2], [0, 0.1, 0.2]),
        ([4.0, 4.2, 4.2, 4.3, 4.5], [0, 0.2, 0.3, 0.4, 0.5]),
        ([4.0, 5.0, 0.0, 5.2], [0, 1.0, 1.1, 1.2]),
    ],
)
def test_positions_start_at_zero_and_always_increase(stamps, expected):
    timeline = Timeline(0.1)
    assert [timeline.at(stamp) for stamp in stamps] == pytest.approx(expected)


def test_a_jump_back_is_a_new_beginning_and_is_told_once():
    timeline = Timeline(0.1)
    # A 32-bit RTP clock at 90 kHz wraps after 47721.86 s.
    stamps = [47721.7, 47721.8, 0.0, 0.5, 1.0]
    positions, told = [], []
    for stamp in stamps:
        positions.append(timeline.at(stamp))
        told.append(timeline.jumped("camera"))
    assert positions == pytest.approx([0, 0.1, 0.2, 0.7, 1.2])
    assert [t is None for t in told] == [True, True, False, True, True]
    assert told[2].code == "discontinuity"
    assert "went back by 47721.8" in told[2].message


def test_the_first_frame_is_due_when_it_comes(clock):
    pace = Pace(clock, lambda: False)
    assert pace.wait(3.0)
    assert clock.slept_s == []
    assert pace.wait(3.12)
    assert sum(clock.slept_s) == pytest.approx(0.12)
    assert max(clock.slept_s) <= 0.05


def test_closing_ends_a_wait_after_one_slice(clock):
    closed = []
    clock.on_sleep = lambda: closed.append(True)
    pace = Pace(clock, lambda: bool(closed))
    assert pace.wait(0.0)
    assert not pace.wait(60.0)
    assert len(clock.slept_s) == 1


def test_a_handle_in_use_is_released_by_its_user():
    released = []
    native = Native(lambda: released.append(threading.current_thread().name))

    def work():
        closer = threading.Thread(target=native.close)
        closer.start()
        closer.join()
        assert released == []
        return "done"

    assert native.use(work) == "done"
    assert released == [threading.current_thread().name]
    assert native.use(work) is None
    native.close()
    assert len(released) == 1


def test_closing_from_inside_does_not_block():
    released = []
    native = Native(lambda: released.append(1))
    native.use(native.close)  # what a signal handler does
    assert released == [1]


def test_a_failing_user_releases_too():
    released = []
    native = Native(lambda: released.append(1))

    def work():
        native.close()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        native.use(work)
    assert released == [1]
