from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable

import pytest

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.delivery.courier import Courier, Refused, Undelivered
from edgevlm.runtime.stream.delivery.outbox import Outbox
from edgevlm.runtime.stream.delivery.sink import DeliveredSink
from edgevlm.runtime.stream.sinks.base import Told
from tests.runtime.stream.told import fault, told


def until(done: Callable[[], object], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


class Receiver:
    """A channel into a list, which may be away or refuse events."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.away = False
        self.refuses: set[str] = set()
        self.takes = 10**9  # of one delivery, before it breaks off

    def deliver(self, messages) -> None:
        for taken, message in enumerate(messages):
            if self.away or taken == self.takes:
                raise Undelivered("nobody there", taken)
            if message.event in self.refuses:
                raise Refused("not wanted", taken)
            self.got.append(message.event)

    def idle(self) -> None:
        if self.away:
            raise Undelivered("nobody there")

    def close(self) -> None:
        self.got.append("bye")


def test_what_waits_outlives_the_process_and_keeps_its_order(tmp_path):
    first = Outbox(tmp_path / "out.db")
    for n in range(3):
        first.append(f"e{n}", "{}", alarm=False)
    first.close()
    again = Outbox(tmp_path / "out.db")
    again.append("e3", "{}", alarm=False)
    db = again.connection()
    assert [m.event for m in Outbox.first(db, 10)] == ["e0", "e1", "e2", "e3"]
    Outbox.taken(db, Outbox.first(db, 2))
    assert [m.event for m in Outbox.first(db, 10)] == ["e2", "e3"]
    db.close()
    again.close()


def test_a_full_outbox_pushes_out_the_oldest_ordinary_events_and_counts_them(tmp_path):
    outbox = Outbox(tmp_path / "out.db", at_most=3)
    assert outbox.append("alarm", "{}", alarm=True) == 0
    assert [outbox.append(f"e{n}", "{}", alarm=False) for n in range(4)] == [0, 0, 1, 1]
    db = outbox.connection()
    assert [m.event for m in Outbox.first(db, 10)] == ["alarm", "e2", "e3"]
    db.close()
    outbox.close()


def test_an_outbox_has_one_user_at_a_time(tmp_path):
    outbox = Outbox(tmp_path / "out.db")
    with pytest.raises(SinkError, match="another run delivers from it"):
        Outbox(tmp_path / "out.db")
    outbox.close()
    Outbox(tmp_path / "out.db").close()


def test_a_damaged_outbox_and_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "out.db").write_bytes(b"no database" * 100)
    with pytest.raises(SinkError, match="cannot be used as an outbox"):
        Outbox(tmp_path / "out.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be written"):
        Outbox(tmp_path / "file" / "out.db")


def test_events_arrive_in_order_while_the_stream_goes_on(tmp_path):
    receiver = Receiver()
    sink = DeliveredSink("there", lambda: receiver, tmp_path / "out.db")
    for n in range(100):
        sink.write(told(n))
    until(lambda: len(receiver.got) == 100)
    sink.close()
    sink.close()
    assert [e.rsplit("/", 1)[1] for e in receiver.got[:-1]] == [str(n) for n in range(100)]
    assert receiver.got[-1] == "bye"


def what_it_says(sink: DeliveredSink, item: Told) -> str:
    """Write an event, and give what the sink has to say since the last one."""
    try:
        sink.write(item)
    except SinkError as exc:
        return str(exc)
    return ""


def test_events_wait_while_nobody_is_there_and_both_changes_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("edgevlm.runtime.stream.delivery.courier.FIRST_RETRY_S", 0.05)
    receiver = Receiver()
    receiver.away = True
    sink = DeliveredSink("there", lambda: receiver, tmp_path / "out.db")
    seqs = itertools.count()

    def next_says(text: str) -> bool:
        return text in what_it_says(sink, told(next(seqs)))

    until(lambda: next_says("nobody there"))
    receiver.away = False
    until(lambda: next_says("delivery goes on"))
    written = next(seqs)
    until(lambda: len(receiver.got) == written)
    sink.close()


def test_a_refused_event_is_told_and_the_others_arrive(tmp_path):
    receiver = Receiver()
    outbox = Outbox(tmp_path / "out.db")
    for n in range(5):
        outbox.append(f"e{n}", "{}", alarm=False)
    receiver.refuses = {"e0", "e3"}
    courier = Courier(outbox, lambda: receiver)
    until(lambda: len(receiver.got) == 3)
    assert courier.close(5)
    assert receiver.got == ["e1", "e2", "e4", "bye"]
    assert courier.take_said() == ["e0 is lost: not wanted", "e3 is lost: not wanted"]
    outbox.close()


def test_a_delivery_that_breaks_off_goes_on_behind_what_was_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("edgevlm.runtime.stream.delivery.courier.FIRST_RETRY_S", 0.01)
    receiver = Receiver()
    receiver.takes = 2
    outbox = Outbox(tmp_path / "out.db")
    for n in range(7):
        outbox.append(f"e{n}", "{}", alarm=False)
    courier = Courier(outbox, lambda: receiver)
    until(lambda: len(receiver.got) == 7)
    assert receiver.got == [f"e{n}" for n in range(7)]
    courier.close(5)
    outbox.close()


def test_waits_between_tries_grow_are_spread_and_have_a_cap(tmp_path):
    outbox = Outbox(tmp_path / "out.db")
    courier = Courier(outbox, Receiver, jitter=random.Random(1).random)
    pauses = [courier._pause(n, None) for n in range(1, 40)]
    assert all(0.5 * min(60, 2 ** (n - 1)) <= p <= min(60, 2 ** (n - 1))
               for n, p in enumerate(pauses, 1))  # fmt: skip
    assert len({p for p in pauses[8:]}) > 20
    assert courier._pause(1, 30.0) == 30.0
    assert courier._pause(1, 1e9) == 60.0
    courier.close(5)
    outbox.close()


def test_what_cannot_be_delivered_at_the_end_is_said_and_delivered_by_the_next_run(tmp_path):
    away = Receiver()
    away.away = True
    sink = DeliveredSink("there", lambda: away, tmp_path / "out.db")
    what_it_says(sink, told(0))
    what_it_says(sink, fault(1))
    with pytest.raises(SinkError, match=r"2 events wait in .*nobody there"):
        sink.close()
    receiver = Receiver()
    again = DeliveredSink("there", lambda: receiver, tmp_path / "out.db")
    until(lambda: len(receiver.got) == 2)
    again.close()


def test_a_hundred_openings_leave_no_thread_behind(tmp_path):
    before = threading.active_count()
    for n in range(100):
        DeliveredSink("there", Receiver, tmp_path / f"{n % 5}.db").close()
    assert threading.active_count() == before
