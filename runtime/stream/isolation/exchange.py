"""One question to a model's process, and what comes back within its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edgevlm.config import LimitsSection
from edgevlm.errors import ContractError
from edgevlm.runtime.stream.isolation.channel import Broken, Channel
from edgevlm.runtime.stream.isolation.messages import (
    Answered,
    Beat,
    Failed,
    Gave,
    Go,
    Question,
    Ready,
    ToParent,
    as_error,
)
from edgevlm.runtime.stream.isolation.shared import Placed
from edgevlm.runtime.stream.isolation.supervisor import (
    LOOK_S,
    SEND_S,
    Supervisor,
)

STOP_S = 5.0  # for the token under way when the run is stopped

Make = Callable[[int, list[Placed]], Question]


class Exchange:
    """Asks a child, and has it replaced when it does not answer as it should.

    Args:
        supervisor: of the child.
        limits: ``step_s`` and ``answer_s``.
        stopped: whether the run is to end; looked at while the child works.
        talk: held by whoever speaks with the child; given away while a stop rule is asked.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        limits: LimitsSection,
        stopped: Callable[[], bool],
        talk: threading.Lock,
    ) -> None:
        self._supervisor = supervisor
        self._step_s = limits.step_s
        self._answer_s = limits.answer_s
        self._stopped = stopped
        self._speaking = talk

    def ask(
        self,
        channel: Channel[ToParent],
        make: Callable[[], Question],
        cancelled: Callable[[], bool],
    ) -> Answered | Gave:
        """What the child gives; ``talk`` is held.

        Args:
            channel: to the child.
            make: the question.
            cancelled: asked between tokens, while the child waits.

        Raises:
            EdgeVLMError: what the child met; it stays.
            ContractError: a question that is none, or that JSON cannot hold.
            BackendError: it broke off, was silent for ``step_s``, took longer than ``answer_s`` or
                said something else; it is gone.
        """
        try:
            question = make()
            channel.send(question, SEND_S)
        except ValueError as exc:  # before any of it was sent
            raise ContractError(f"this cannot be asked of a model's process: {exc}") from exc
        except Broken as exc:
            raise self._supervisor.lost(exc, channel) from exc
        try:
            said = self._heard(channel, question, cancelled)
        except Broken as exc:
            raise self._supervisor.lost(exc, channel) from exc
        except BaseException:  # of the stop rule: the child waits for a word that will not come
            self._supervisor.lost(Broken("was left in the middle of an answer"), channel)
            raise
        if isinstance(said, Failed):
            raise as_error(said)
        return said

    def _heard(
        self, channel: Channel[ToParent], question: Question, cancelled: Callable[[], bool]
    ) -> Answered | Gave | Failed:
        until = time.monotonic() + self._answer_s
        while True:
            self._wait(channel, until)
            said = channel.receive(SEND_S)
            if isinstance(said, Ready) or said.number != question.number:
                raise Broken(f"said {said.kind} out of turn")
            if not isinstance(said, Beat):
                return said
            asked = time.monotonic()
            on = not self.aside(cancelled)
            until += time.monotonic() - asked  # the caller's time, not the child's
            channel.send(Go(number=question.number, lane=question.lane, on=on), SEND_S)

    def aside(self, cancelled: Callable[[], bool]) -> bool:
        """Ask the stop rule; somebody else may speak with the child meanwhile."""
        self._speaking.release()
        try:
            return cancelled()
        finally:
            self._speaking.acquire()

    def _wait(self, channel: Channel[ToParent], until: float) -> None:
        """Until the child says something.

        Raises:
            Broken: its time is over.
        """
        silent = time.monotonic() + self._step_s
        ending: float | None = None
        while True:
            heard = channel.waits(LOOK_S)
            now = time.monotonic()
            if now > until:
                raise Broken(f"has not ended an answer in {self._answer_s:g} s")
            if heard:
                return
            if now > silent:
                raise Broken(f"has given no sign of life for {self._step_s:g} s")
            if ending is None and self._stopped():
                ending = now + STOP_S
            if ending is not None and now > ending:
                raise Broken(f"was still at work {STOP_S:g} s after the run was stopped")
