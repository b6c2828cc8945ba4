"""Where the plan meets the streams: a clock, a model, sinks and a receiver that can go wrong."""

from __future__ import annotations

import http.server
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.schedule import OF_THE_CAMERA, Fault
from edgevlm.errors import BackendError
from edgevlm.runtime.stream.sinks import Told
from edgevlm.runtime.stream.store.writer import EventStore

DAY_NS = 86_400_000_000_000
PAGES = 2**31 - 2  # SQLite's own limit


class FastClock:
    """Time that runs ``speed`` times as fast as the machine's, with a wall clock that can jump."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._begun_ns = time.monotonic_ns()
        self._wall_ns = time.time_ns()
        self.jumped_ns = 0

    def monotonic_ns(self) -> int:
        """Nanoseconds of stream time."""
        return self._begun_ns + round((time.monotonic_ns() - self._begun_ns) * self._speed)

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, wherever the clock was set to."""
        return self._wall_ns + self.monotonic_ns() - self._begun_ns + self.jumped_ns

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of stream time."""
        time.sleep(seconds / self._speed)

    def elapsed_s(self) -> float:
        """Stream time since the beginning."""
        return (self.monotonic_ns() - self._begun_ns) / 1e9


class Injector:
    """Carries the plan out.

    Args:
        faults: the plan.
        clock: of the streams.
        proxy: before the camera.
    """

    def __init__(self, faults: list[Fault], clock: FastClock, proxy: Any) -> None:
        self._faults = faults
        self._clock = clock
        self._proxy = proxy
        self._on: dict[tuple[str, str], Fault] = {}
        self._once: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.child: Callable[[], int | None] = lambda: None  # the process id of a model

    def carry_out(self, over: Callable[[], bool]) -> None:
        """Begin and end faults as the plan says, until ``over``."""
        waiting = list(self._faults)
        while not over():
            now_s = self._clock.elapsed_s()
            while waiting and waiting[0].at_s <= now_s:
                self._begin(waiting.pop(0))
            for key, fault in list(self._on.items()):
                if now_s >= fault.at_s + fault.lasts_s:
                    self._end(key, fault)
            time.sleep(0.02)
        for key, fault in list(self._on.items()):
            self._end(key, fault)

    def _begin(self, fault: Fault) -> None:
        self.done[fault.kind] += 1
        if fault.kind == "clock_jump":
            self._clock.jumped_ns += round(fault.amount * DAY_NS)
        elif fault.kind == "model_fails":
            self._once[fault.stream] += 1
        elif fault.kind == "child_killed":
            if (child := self.child()) is not None:
                os.kill(child, signal.SIGKILL)
        else:
            if fault.kind == "garbage":
                self._proxy.garbage(2000)
            elif fault.kind == "slow":
                self._proxy.slow(4000)
            elif fault.kind in OF_THE_CAMERA:
                getattr(self._proxy, fault.kind)()
            self._on[fault.stream, fault.kind] = fault

    def _end(self, key: tuple[str, str], fault: Fault) -> None:
        if fault.kind in OF_THE_CAMERA:
            self._proxy.whole()
        del self._on[key]

    def on(self, kind: str, stream: str = "") -> bool:
        """True while this is wrong."""
        return (stream, kind) in self._on

    def before_step(self, stream: str) -> Callable[[], None]:
        """What a scripted backend calls before every step of this stream's model."""

        def step() -> None:
            if self._once[stream]:
                self._once[stream] -= 1
                raise BackendError("the fault run had this step fail")
            if fault := self._on.get((stream, "model_hangs")):
                self._clock.sleep(fault.lasts_s)

        return step


class TriedSink:
    """An event store whose disk is full at times, and which is slow at times.

    The limit on pages makes SQLite itself say "database or disk is full".

    Args:
        path: of the store.
        stream: whose events it gets.
        injector: says when.
        clock: of the slowness.
    """

    def __init__(self, path: Path, stream: str, injector: Injector, clock: FastClock) -> None:
        self.name = f"store of {stream}"
        self._store = EventStore(path, clock=clock)
        self._stream, self._injector, self._clock = stream, injector, clock
        self._full = False

    def write(self, told: Told) -> None:
        """Write one event, as far as that is possible now."""
        if self._injector.on("slow_sink", self._stream):
            self._clock.sleep(0.5)
        full = self._injector.on("disk_full", self._stream)
        if full != self._full:
            self._limit(full)
        self._store.add(told.event, told.frame)

    def _limit(self, full: bool) -> None:
        db = self._store._db
        assert db is not None
        self._full = full
        used = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {used if full else PAGES}").fetchone()

    def close(self) -> None:
        """Write what waits."""
        if self._full:
            self._limit(False)
        self._store.close()


class Receiver(http.server.ThreadingHTTPServer):
    """Takes webhooks, or answers 503 while it is down."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.injector: Injector | None = None
        self.events: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def down(self) -> bool:
        """True while it refuses."""
        return self.injector is not None and self.injector.on("receiver_down")


class _Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        down = self.server.down()
        if not down:
            self.server.events[self.headers["X-Edgevlm-Event"]] += 1
        self.send_response(503 if down else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""
