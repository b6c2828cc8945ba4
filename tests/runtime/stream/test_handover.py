from __future__ import annotations

import threading
import time

import pytest

from edgevlm.runtime.stream.handover import Latest, in_thread


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

    items = in_thread(unplugged(), depth=4).items(never)
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
