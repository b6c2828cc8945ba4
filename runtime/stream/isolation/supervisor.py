"""Keeps a model's process there: starts it, watches it, ends it, starts another in its place.

::

    start ──▶ loading ── Ready ──▶ loaded ◀──▶ asked
      ▲          │                   │           │
      │          └─ dead, too slow ──┴─ dead ────┴─ dead, silent, garbage
      │                              │
      └──── after WAITS_S ───────────┴──▶ gone, after more than MOST losses within WINDOW_S

Nothing here waits without a bound, and ``look`` does not wait at all.
"""

from __future__ import annotations

from collections.abc import Callable

from edgevlm.errors import BackendError, BackendGone, BackendMemoryError, ContractError
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.isolation.channel import Broken, Channel
from edgevlm.runtime.stream.isolation.ending import MEMORY_WAS_SHORT
from edgevlm.runtime.stream.isolation.messages import (
    TO_PARENT,
    Failed,
    Load,
    Ready,
    ToParent,
    as_error,
)
from edgevlm.runtime.stream.worker import Worker

WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0)  # before another process is started
WINDOW_S = 60.0
MOST = len(WAITS_S)  # losses within the window that are made good
LOOK_S = 0.1  # how often who waits looks whether it should
SEND_S = 5.0
END_S = 1.0  # from a closed connection to the end of the process behind it
LEAVE_S = 5.0  # for a process that is asked to leave
_IDLE = Broken("broke off while nobody asked", closed=True)


class Supervisor:
    """One child at a time, and what happened to those before it.

    Args:
        load: the first message to every child.
        start: starts one.
        start_s: within which it must be loaded.
        clock: of waits.
    """

    def __init__(
        self, load: Load, start: Callable[[], Worker], start_s: float, clock: Clock
    ) -> None:
        self._load = load
        self._start = start
        self._start_s = start_s
        self._late = f"has not loaded the model in {start_s:g} s"
        self._clock = clock
        self._worker: Worker | None = None
        self._channel: Channel[ToParent] | None = None
        self._loaded = False
        self._gone: str | None = None
        self._closed = False
        self._begun_ns = self._due_ns = self._lost_ns = 0
        self._losses_ns: list[int] = []
        self._notices: list[BackendError | Notice] = []

    @property
    def pid(self) -> int | None:
        """Of the child, where there is one."""
        return None if self._worker is None else self._worker.pid

    def first(self) -> Ready:
        """Start the first child and wait until it has loaded the model.

        Raises:
            EdgeVLMError: what the child could not do, as ``load`` says it.
            BackendError: it died, or took too long. It is not tried again.
        """
        try:
            self._spawn()
            assert self._channel is not None
            if not self._channel.waits(self._start_s):
                raise Broken(self._late)
            said = self._channel.receive(SEND_S)
            if not isinstance(said, Ready | Failed):
                raise Broken(f"said {said.kind} where ready was due")
        except Broken as exc:
            raise BackendError(self._end(exc)) from exc
        if isinstance(said, Failed):
            self._end(Broken("could not load the model", closed=True))
            raise as_error(said)
        self._loaded = True
        # Whatever had to be chosen at the start stays as it is.
        self._load = self._load.model_copy(update={"backend": said.backend, "fallback": None})
        return said

    def channel(self, given_up: Callable[[], bool]) -> Channel[ToParent] | None:
        """To a child that has loaded the model, starting one and waiting for it where needed.

        Args:
            given_up: asked while it waits; True ends the wait with None.

        Raises:
            ContractError: this model is closed.
            BackendGone: children died too often.
            BackendError: the child that was waited for did not come.
        """
        while True:
            self._usable()
            if self._worker is None:
                wait_s = (self._due_ns - self._clock.monotonic_ns()) / 1e9
                if wait_s > 0:
                    if given_up():
                        return None
                    self._clock.sleep(min(wait_s, LOOK_S))
                    continue
                self._begin()
            assert self._channel is not None
            if self._loaded:
                if not self._channel.waits(0):
                    return self._channel
                self._notices.append(self.lost(_IDLE))
            elif self._channel.waits(LOOK_S):
                self._greet()
            elif self._overdue():
                raise self.lost(Broken(self._late))
            elif given_up():
                return None

    def look(self) -> list[BackendError | Notice]:
        """See how the child is, start another if it is time to, and say what happened."""
        if not self._closed and self._gone is None:
            try:
                self._step()
            except BackendError as exc:
                self._notices.append(exc)
        said, self._notices = self._notices, []
        return said

    def _step(self) -> None:
        if self._worker is None:
            if self._clock.monotonic_ns() >= self._due_ns:
                self._begin()
            return
        assert self._channel is not None
        self._worker.listen()
        if self._channel.waits(0):
            if self._loaded:
                raise self.lost(_IDLE)
            self._greet()
        elif not self._loaded and self._overdue():
            raise self.lost(Broken(self._late))

    def lost(self, why: Broken, channel: Channel[ToParent] | None = None) -> BackendError:
        """End the child, and plan for another.

        Args:
            why: what it did.
            channel: to the child that is meant, which may have been lost before; None: this one.

        Returns:
            the error to raise or to tell; a ``BackendGone`` if there will be no other.
        """
        if channel is not None and channel is not self._channel:
            return BackendError("the model's process was lost while another question was asked")
        what = self._end(why)
        now_ns = self._lost_ns = self._clock.monotonic_ns()
        self._losses_ns = [t for t in self._losses_ns if now_ns - t < WINDOW_S * 1e9] + [now_ns]
        count = len(self._losses_ns)
        if count > MOST:
            self._gone = f"{what}; that was loss {count} within {WINDOW_S:g} s: none is started"
            return BackendGone(self._gone)
        wait_s = WAITS_S[count - 1]
        self._due_ns = now_ns + round(wait_s * 1e9)
        when = f"in {wait_s:g} s" if wait_s else "at once"
        kind = BackendMemoryError if MEMORY_WAS_SHORT in what else BackendError
        return kind(
            f"{what}; another is started {when} (loss {count} of at most {MOST} within "
            f"{WINDOW_S:g} s)"
        )

    def _usable(self) -> None:
        if self._closed:
            raise ContractError("this model is closed; load it again")
        if self._gone is not None:
            raise BackendGone(self._gone)

    def _begin(self) -> None:
        """Start a child; a loss if that does not work."""
        try:
            self._spawn()
        except BackendError as exc:
            raise self.lost(Broken(f"cannot be started: {exc}")) from exc
        except Broken as exc:
            raise self.lost(exc) from exc

    def _spawn(self) -> None:
        self._loaded = False
        self._begun_ns = self._clock.monotonic_ns()
        self._worker = self._start()
        self._channel = Channel(self._worker.end, TO_PARENT)
        self._channel.send(self._load, SEND_S)

    def _greet(self) -> None:
        """Hear what a child that was loading has to say."""
        assert self._channel is not None
        try:
            said = self._channel.receive(SEND_S)
            if isinstance(said, Failed):
                raise Broken(f"could not load the model ({said.message})", closed=True)
            if not isinstance(said, Ready):
                raise Broken(f"said {said.kind} where ready was due")
        except Broken as exc:
            raise self.lost(exc) from exc
        self._loaded = True
        took_s = (self._clock.monotonic_ns() - self._lost_ns) / 1e9
        self._notices.append(
            Notice(
                "recovered", f"another process has loaded the model, {took_s:.1f} s after the loss"
            )
        )

    def _overdue(self) -> bool:
        return self._clock.monotonic_ns() - self._begun_ns > self._start_s * 1e9

    def _end(self, why: Broken) -> str:
        """End the child and say how; there is none afterwards."""
        worker, self._worker, self._channel, self._loaded = self._worker, None, None, False
        if worker is None:
            return f"the model's process {why}"
        return f"the model's process {why} and {worker.end_by(END_S if why.closed else 0)}"

    def kill(self) -> None:
        """Kill the child; no other follows. From any thread: whoever waits for it clears up."""
        self._closed = True
        if (worker := self._worker) is not None:
            worker.kill()

    def close(self) -> None:
        """End the child, politely if it is idle; no other follows. May be called twice."""
        self._closed = True
        worker, channel, idle = self._worker, self._channel, self._loaded
        self._worker, self._channel, self._loaded = None, None, False
        if channel is not None:
            channel.close()  # it leaves when it next listens
        if worker is not None:
            worker.end_by(LEAVE_S if idle else 0)
