"""The model's process: ``python -m edgevlm.runtime.stream.isolation.child``, started by a Worker.

It answers one question at a time and keeps nothing between two that the next one could not do
without. Errors of edgevlm are said; anything else ends the process, and another takes its place.
"""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgevlm.errors import ContractError, EdgeVLMError
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.messages import replaced
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.isolation.channel import Broken, Channel
from edgevlm.runtime.stream.isolation.ending import dies_with
from edgevlm.runtime.stream.isolation.messages import (
    TO_CHILD,
    Answered,
    Ask,
    AskMany,
    Beat,
    Encode,
    EncodeText,
    Failed,
    Gave,
    Go,
    Load,
    Ready,
    Relevance,
    ToChild,
    ToParent,
)
from edgevlm.runtime.stream.isolation.shared import Placed, SharedArrays
from edgevlm.runtime.stream.isolation.trees import packed, unpacked
from edgevlm.tensors import Array

SEND_S = 60.0  # for the parent to take a message
FIRST_TO_GO = "500"  # of -1000 to 1000: where memory ends, this process goes before its parent


def main(arguments: list[str]) -> int:
    """Serve until the parent closes the connection."""
    end, life, pictures, results = map(int, arguments)
    dies_with(life)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    channel = Channel(socket.socket(fileno=end), TO_CHILD)
    memory = SharedArrays(pictures), SharedArrays(results)
    try:
        first = channel.receive(None)
        if not isinstance(first, Load):
            raise ContractError(f"the first message must be load, got {first.kind}")
        try:
            model = loaded(first)
        except EdgeVLMError as exc:
            channel.send(failed(None, exc), SEND_S)
            return 1
        with model:
            ready = Ready(backend=model.backend.name, parity=model.parity, missed=model.missed)
            channel.send(ready, SEND_S)
            serve(channel, model, *memory)
    except Broken:
        return 0  # the parent has closed its end, or there is none any more
    return 0


def loaded(asked: Load) -> Vlm:
    """The model.

    Raises:
        EdgeVLMError: as ``load``.
    """
    if asked.memory_mb is not None:
        limit = asked.memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return load(
        asked.bundle,
        backend=asked.backend,
        threads=asked.threads,
        spin=asked.spin,
        verify=asked.verify,
        cpu_fallback=asked.cpu_fallback,
        trust_engines=asked.trust_engines,
        fallback=asked.fallback,
    )


def serve(
    channel: Channel[ToChild], model: Vlm, pictures: SharedArrays, results: SharedArrays
) -> None:
    """Answer questions.

    Raises:
        Broken: the parent has closed the connection.
    """
    while True:
        asked = channel.receive(None)
        if isinstance(asked, Load | Go):
            raise ContractError(f"nobody waited for {asked.kind}")
        try:
            reply = answered(channel, model, asked, pictures, results)
        except EdgeVLMError as exc:
            reply = failed(asked.number, exc)
        channel.send(reply, SEND_S)


def answered(
    channel: Channel[ToChild],
    model: Vlm,
    asked: Ask | AskMany | Encode | EncodeText | Relevance,
    pictures: SharedArrays,
    results: SharedArrays,
) -> ToParent:
    """What the model says.

    Raises:
        EdgeVLMError: as the method of ``Vlm``.
        Broken: the parent has closed the connection.
    """
    number = asked.number
    if isinstance(asked, EncodeText):
        return gave(number, model.encode_text(asked.texts), results)
    shown = shown_by(asked.pictures, asked.arrays, pictures)
    if isinstance(asked, Encode):
        return gave(number, model.encode(shown[0], asked.among), results)
    if isinstance(asked, Relevance):
        return gave(number, model.relevance(shown, asked.question), results)
    choosing: dict[str, Any] = {
        "max_tokens": asked.max_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "cancelled": between_tokens(channel, number),
    }
    if isinstance(asked, AskMany):
        answers = model.ask_many(
            shown,
            asked.questions,
            system=asked.system,
            draft=asked.draft,
            together=asked.together,
            **choosing,
        )
        return Answered(number=number, answers=answers, drafts=None)
    answer = model.ask(
        messages=replaced(asked.messages, shown.__getitem__),
        schema=asked.schema_,
        draft=asked.drafts or False,
        deadline_ns=asked.deadline_ns,
        **choosing,
    )
    return Answered(number=number, answers=[answer], drafts=asked.drafts)


def between_tokens(channel: Channel[ToChild], number: int) -> Callable[[], bool]:
    """The parent's stop rule, asked over the channel: a sign of life, and leave to go on."""

    def over() -> bool:
        channel.send(Beat(number=number), SEND_S)
        said = channel.receive(None)
        if not isinstance(said, Go) or said.number != number:
            raise Broken(f"said {said.kind} where go was due")
        return not said.on

    return over


def shown_by(trees: Sequence[Any], places: Sequence[Placed], memory: SharedArrays) -> list[Any]:
    """Pictures, or what was encoded of them."""
    arrays = [memory.read(place) for place in places]
    return [unpacked(tree, arrays) for tree in trees]


def gave(number: int, value: Any, memory: SharedArrays) -> Gave:
    """Something with arrays in it."""
    arrays: list[Array] = []
    tree = packed(value, arrays)
    return Gave(number=number, tree=tree, arrays=memory.write(arrays))


def failed(number: int | None, error: EdgeVLMError) -> Failed:
    """An error, as it goes over the channel."""
    return Failed(number=number, error=type(error).__name__, message=str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
