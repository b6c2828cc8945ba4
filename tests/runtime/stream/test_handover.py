from __future__ import annotations

import threading
import time

import pytest

from edgevlm.runtime.stream.handover import KEPT, Asked, Latest, feed


def never() -> bool:
    return False


def test_the_newest_item_stays_and_the_others_are_counted():
    latest: Latest[int] = Latest()
    for item in range(5):
        assert latest.put(item)
    latest.close()
    assert list(latest.items(never)) == [4]
    assert latest.take_superseded() == 4
    assert latest.take_superseded() == 0


def test_a_deeper_hand_over_keeps_order():
    latest: Latest[int] = Latest(depth=3)
    for item in range(5):
        latest.put(item)
    latest.close()
    assert list(latest.items(never)) == [2, 3, 4]


def test_an_error_of_the_writer_reaches_the_reader_behind_the_last_item():
    def unplugged():
        yield 1
        raise OSError("camera unplugged")

    latest: Latest[int] = Latest(depth=4)
    feed(latest, unplugged())
    items = latest.items(never)
    assert next(items) == 1
    with pytest.raises(OSError, match="camera unplugged"):
        next(items)


def test_put_after_close_says_no_and_the_writer_ends():
    latest: Latest[int] = Latest()
    latest.close()
    assert not latest.put(1)
    latest.close()


def test_what_lies_in_it_at_the_end_is_counted():
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.close()
    assert latest.take_left() == 1
    assert list(latest.items(never)) == []


def test_a_waiting_reader_notices_its_stop_rule():
    latest: Latest[int] = Latest()
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    assert list(latest.items(stop.is_set)) == []
    assert time.monotonic() - begun < 2


def test_close_wakes_a_waiting_reader_at_once():
    latest: Latest[int] = Latest()
    threading.Timer(0.02, latest.close).start()
    assert list(latest.items(never)) == []


def words(item: int | str) -> bool:
    return isinstance(item, str)


def test_what_a_source_reports_is_neither_pushed_out_nor_counted():
    latest: Latest[int | str] = Latest(keep=words)
    for item in (1, "stalled", 2, "back", 3):
        latest.put(item)
    assert latest.newest() == 3
    latest.close()
    assert list(latest.items(never)) == ["stalled", "back", 3]
    assert latest.take_superseded() == 2


def test_reports_are_bounded_too():
    latest: Latest[int | str] = Latest(keep=words)
    for number in range(1000):
        latest.put(str(number))
    assert latest.newest() is None
    assert latest.take_superseded() == 0
    assert latest.take_left() == 0
    for number in range(1000):
        latest.put(str(number))
    latest.close()
    assert list(latest.items(never)) == [str(n) for n in range(1000 - KEPT, 1000)]


def test_a_question_that_is_not_answered_costs_its_bound_and_no_more():
    gate = threading.Event()
    asked = Asked(gate.wait)
    begun = time.monotonic()
    assert not asked.answered(0.05)
    assert time.monotonic() - begun < 1
    gate.set()
    assert asked.answered(5)
    with pytest.raises(OSError, match="no such name"):
        Asked(lambda: (_ for _ in ()).throw(OSError("no such name"))).answered(5)
