"""The model's process: ``python -m edgevlm.runtime.stream.isolation.child``, started by a Worker.

It keeps nothing between two questions that the next one could not do without. Errors of edgevlm are
said; anything else ends the process, and another takes its place. One thread listens, each lane
works on its own, the first of them on the main thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgevlm.errors import ContractError, EdgeVLMError
from edgevlm.runtime.model.lanes import load_lanes
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.handover import feed
from edgevlm.runtime.stream.isolation.channel import Broken, Channel
from edgevlm.runtime.stream.isolation.ending import dies_with
from edgevlm.runtime.stream.isolation.messages import TO_CHILD, Load, Ready, ToChild
from edgevlm.runtime.stream.isolation.serving import SEND_S, Lane, failed
from edgevlm.runtime.stream.isolation.shared import SharedArrays

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
            models = loaded(first)
        except EdgeVLMError as exc:
            channel.send(failed(None, exc), SEND_S)
            return 1
        one = models[0]
        saying, alone = threading.Lock(), len(models) == 1
        lanes = [Lane(model, channel, saying, *memory, alone=alone) for model in models]
        channel.send(Ready(backend=one.backend.name, parity=one.parity, missed=one.missed), SEND_S)
        for number, lane in enumerate(lanes[1:], start=1):
            feed(lane, lane.replies(), name=f"edgevlm-lane-{number}")
        feed(Router(lanes), heard(channel), name="edgevlm-listener")
        for reply in lanes[0].replies():
            lanes[0].put(reply)
    except Broken:
        return 0  # the parent has closed its end, or there is none any more
    for model in models:
        model.close()
    return 0


def loaded(asked: Load) -> list[Vlm]:
    """The models.

    Raises:
        EdgeVLMError: as ``load``.
    """
    if asked.memory_mb is not None:
        limit = asked.memory_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if asked.lanes > 1:
        return load_lanes(
            asked.lanes,
            asked.bundle,
            backend=asked.backend,
            threads=asked.threads,
            spin=asked.spin,
            verify=asked.verify,
            cpu_fallback=asked.cpu_fallback,
            trust_engines=asked.trust_engines,
            visual_tokens=asked.visual_tokens,
        )
    return [
        load(
            asked.bundle,
            backend=asked.backend,
            threads=asked.threads,
            spin=asked.spin,
            verify=asked.verify,
            cpu_fallback=asked.cpu_fallback,
            trust_engines=asked.trust_engines,
            fallback=asked.fallback,
            visual_tokens=asked.visual_tokens,
        )
    ]


def heard(channel: Channel[ToChild]) -> Iterator[ToChild]:
    """What the parent says.

    Raises:
        Broken: it has closed the connection.
    """
    while True:
        yield channel.receive(None)


class Router:
    """Tells each lane what is for it; ``WayIn`` of what is heard.

    Args:
        lanes: by number.
    """

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def put(self, item: ToChild) -> bool:
        """Hand on a message."""
        if isinstance(item, Load):
            raise ContractError("the model is loaded already")
        self._lanes[item.lane].tell(item)
        return True

    def close(self, error: BaseException | None = None) -> None:
        """There is nothing more to hear: end, at once if a lane works for nobody."""
        if not isinstance(error, Broken):
            traceback.print_exception(error)
        if not isinstance(error, Broken) or any(lane.busy for lane in self._lanes):
            sys.stderr.flush()
            os._exit(1)
        for lane in self._lanes:
            lane.tell(None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
