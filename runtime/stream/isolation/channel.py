"""Messages between two processes over a pair of sockets: JSON, with a length, bounded both ways.

What comes in was perhaps written by a process that is broken. It is read as JSON and held against
the message types; nothing of it is ever executed.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

MAGIC = b"EVI\x01"  # and the version
MOST_BYTES = 8 << 20
_HEADER = struct.Struct("<4sI")

T = TypeVar("T")


class Broken(Exception):
    """The other side is gone, or what it says is no message.

    Args:
        what: it did.
        closed: its end of the connection, as a process does that ends.
    """

    def __init__(self, what: str, closed: bool = False) -> None:
        super().__init__(what)
        self.closed = closed


class Channel(Generic[T]):
    """One end.

    Args:
        end: a connected stream socket; closed with the channel.
        kinds: of the messages that come in.
    """

    def __init__(self, end: socket.socket, kinds: TypeAdapter[T]) -> None:
        end.setblocking(False)
        self._end = end
        self._kinds = kinds

    def send(self, message: BaseModel, within_s: float) -> None:
        """Send a message.

        Raises:
            Broken: the other side is gone, or does not take it in time.
            ValueError: it is too long, or holds what JSON cannot.
        """
        body = message.model_dump_json().encode()
        if len(body) > MOST_BYTES:
            raise ValueError(f"a message of {len(body)} bytes; the cap is {MOST_BYTES}")
        left = memoryview(_HEADER.pack(MAGIC, len(body)) + body)
        until = time.monotonic() + within_s
        while left:
            if not self._able(select.POLLOUT, until):
                raise Broken(f"took no message for {within_s:g} s")
            try:
                left = left[self._end.send(left) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise Broken("closed its connection", closed=True) from exc

    def waits(self, for_s: float) -> bool:
        """True as soon as there is something to receive, an end too."""
        return self._able(select.POLLIN, time.monotonic() + for_s)

    def _able(self, what: int, until: float | None) -> bool:
        poll = select.poll()
        try:
            poll.register(self._end, what)
        except ValueError:  # closed by another thread
            return True
        left = None if until is None else max(0.0, until - time.monotonic()) * 1e3
        return bool(poll.poll(left))

    def receive(self, within_s: float | None) -> T:
        """The next message.

        Args:
            within_s: for the whole of it; None waits for ever.

        Raises:
            Broken: there is none, or it is none.
        """
        until = None if within_s is None else time.monotonic() + within_s
        magic, length = _HEADER.unpack(self._take(_HEADER.size, until))
        if magic != MAGIC or length > MOST_BYTES:
            raise Broken("wrote something that is no message")
        body = self._take(length, until)
        try:
            return self._kinds.validate_json(body)
        except (ValidationError, RecursionError) as exc:
            raise Broken(f"wrote something that is no message: {_first(exc)}") from exc

    def _take(self, count: int, until: float | None) -> bytes:
        taken = bytearray()
        while len(taken) < count:
            if not self._able(select.POLLIN, until):
                raise Broken("began a message and did not end it")
            try:
                part = self._end.recv(min(count - len(taken), 1 << 20))
            except BlockingIOError:
                continue
            except OSError as exc:
                raise Broken("closed its connection", closed=True) from exc
            if not part:
                raise Broken("closed its connection", closed=True)
            taken += part
        return bytes(taken)

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._end.close()


def _first(error: Exception) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error)
