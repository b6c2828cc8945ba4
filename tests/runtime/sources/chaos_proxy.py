"""A proxy on loopback that does to a TCP connection what networks do.

``ChaosProxy(port)`` passes bytes between a client and ``127.0.0.1:port``. What it does with those
that the server sends is set at any time, for connections that are open and for those to come:
``whole``, ``cut`` (connections are reset, new ones refused), ``stall`` (nothing more comes, the
connection stays open), ``garbage`` (one byte in ``every`` is another), ``slow`` (so many bytes a
second). Seeded; never leaves loopback.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends a reset


class ChaosProxy:
    def __init__(self, port: int, seed: int = 0) -> None:
        self._target = port
        self._rng = random.Random(seed)
        self._mode, self._every, self._rate = "whole", 1, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> ChaosProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join(5)
        for pair in self._pairs:
            self._drop(pair)
        self._listener.close()

    def whole(self) -> None:
        self._mode = "whole"

    def cut(self) -> None:
        self._mode = "cut"

    def stall(self) -> None:
        self._mode = "stall"

    def garbage(self, every: int) -> None:
        self._mode, self._every = "garbage", every

    def slow(self, bytes_per_second: int) -> None:
        self._mode, self._rate = "slow", bytes_per_second

    def _serve(self) -> None:
        while not self._ended:
            readers = [self._listener, *(end for pair in self._pairs for end in pair)]
            if self._mode == "stall":
                readers = [self._listener]  # bytes pile up in the kernel, as behind a dead switch
            ready, _, _ = select.select(readers, [], [], 0.02)
            if self._mode == "cut":
                for pair in self._pairs:
                    self._drop(pair)
                self._pairs.clear()
            if self._listener in ready:
                self._accept()
            for pair in list(self._pairs):
                if not all(self._move(pair, way) for way in (0, 1) if pair[way] in ready):
                    self._drop(pair)
                    self._pairs.remove(pair)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._mode == "cut":
            self._drop((client, client))
            return
        self.connections += 1
        self._pairs.append((client, socket.create_connection(("127.0.0.1", self._target), 5)))

    def _move(self, pair: tuple[socket.socket, socket.socket], way: int) -> bool:
        """Pass what one end sent (0: the client) on to the other; False when either is gone."""
        limit = 65536
        if way == 1 and self._mode == "slow":
            limit = max(1, self._rate // 50)
            time.sleep(0.02)
        try:
            data = pair[way].recv(limit)
            if way == 1 and self._mode == "garbage":
                data = bytes(b ^ 0xA5 if self._rng.randrange(self._every) == 0 else b for b in data)
            pair[1 - way].sendall(data)
        except OSError:
            return False
        return bool(data)

    @staticmethod
    def _drop(pair: tuple[socket.socket, socket.socket]) -> None:
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()
