"""A model's process that is broken as the environment says: ``python -m tests...broken_child``.

It knows the messages from their bytes alone, and loads nothing of edgevlm.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from typing import Any

READY = {"kind": "ready", "backend": "broken", "parity": None, "missed": None}
ANSWER = {
    "text": "fine", "token_ids": [1], "finish_reason": "stop", "timings_ms": {}, "tokens": {},
    "backend": "broken",
}  # fmt: skip


def main() -> None:
    how = os.environ["EDGEVLM_TEST_BROKEN"]
    end = socket.socket(fileno=int(sys.argv[1]))
    if how == "dead at the start":
        print("no such engine", flush=True)
        sys.exit(3)
    hear(end)
    if how == "never ready":
        time.sleep(600)
    if how == "cannot load" or (how == "cannot load again" and not first()):
        say(end, {"kind": "failed", "number": None, "error": "EngineMismatch", "message": "old"})
        return
    say(end, READY)
    while True:
        asked = hear(end)
        number = asked["number"]
        taught = None if asked.get("drafts") is None else [asked["drafts"]]
        answered = {"kind": "answered", "number": number, "answers": [ANSWER], "drafts": taught}
        if how == "no message":
            end.sendall(b"Segmentation fault (core dumped)\n")
        elif how == "endless":
            end.sendall(b"EVI\x01" + struct.pack("<I", 0xFFFFFFFF) + b" " * 100)
        elif how == "half":
            end.sendall(b"EVI\x01" + struct.pack("<I", 100) + b"{")
        elif how == "no JSON":
            end.sendall(b"EVI\x01" + struct.pack("<I", 5) + b"\xff\x00{[(")
        elif how == "deep":
            body = b"[" * 100_000
            end.sendall(b"EVI\x01" + struct.pack("<I", len(body)) + body)
        elif how == "pickle":
            body = b"cos\nsystem\n(S'exit 1'\ntR."
            end.sendall(b"EVI\x01" + struct.pack("<I", len(body)) + body)
        elif how == "unknown kind":
            say(end, {"kind": "gone", "number": number})
        elif how == "no answer":
            say(end, {**answered, "answers": [{**ANSWER, "finish_reason": "bored"}]})
        elif how == "too few":
            say(end, {**answered, "answers": []})
        elif how == "stale":
            say(end, {**answered, "number": number - 1})
        elif how == "outside":
            place = {"at": 1 << 40, "dtype": "uint8", "shape": [3]}
            say(end, {"kind": "gave", "number": number, "tree": {"array": 0}, "arrays": [place]})
        elif how == "no tree":
            say(end, {"kind": "gave", "number": number, "tree": {"run": "rm"}, "arrays": []})
        elif how == "for ever":
            while True:
                say(end, {"kind": "beat", "number": number})
                hear(end)
        elif how == "silent":
            time.sleep(600)
        elif how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "aborted":
            os.abort()
        elif how == "exits":
            print("out of luck", file=sys.stderr, flush=True)
            sys.exit(7)
        elif how == "chatty":
            for _ in range(1000):
                try:
                    os.write(2, b"y" * 4096)
                except BlockingIOError:
                    break
            say(end, answered)
        else:
            say(end, answered)


def first() -> bool:
    """True of the first child of a test, which leaves a mark."""
    mark = os.environ["EDGEVLM_TEST_MARK"]
    if os.path.exists(mark):  # noqa: PTH110 - nothing but the standard library
        return False
    os.close(os.open(mark, os.O_CREAT))
    return True


def hear(end: socket.socket) -> Any:
    header = take(end, 8)
    assert header[:4] == b"EVI\x01"
    return json.loads(take(end, struct.unpack("<I", header[4:])[0]))


def take(end: socket.socket, count: int) -> bytes:
    taken = b""
    while len(taken) < count:
        part = end.recv(count - len(taken))
        if not part:
            sys.exit(0)
        taken += part
    return taken


def say(end: socket.socket, message: Any) -> None:
    body = json.dumps(message).encode()
    end.sendall(b"EVI\x01" + struct.pack("<I", len(body)) + body)


if __name__ == "__main__":
    main()
