"""A model's process as a stream's process sees it: asked, looked after, ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgevlm.bundle import open_bundle
from edgevlm.config import EngineSection, LimitsSection
from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.model.decode import never
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.isolation.channel import Broken
from edgevlm.runtime.stream.isolation.exchange import Exchange, Make
from edgevlm.runtime.stream.isolation.messages import Answered, Gave, Load
from edgevlm.runtime.stream.isolation.shared import Placed, SharedArrays
from edgevlm.runtime.stream.isolation.supervisor import Supervisor
from edgevlm.runtime.stream.worker import Worker
from edgevlm.tensors import Array

CHILD = "edgevlm.runtime.stream.isolation.child"


class ModelProcess:
    """A bundle loaded in a child process, and in another one if that is lost.

    The child holds *lanes*: models over the same weights, each with a cache of its own and asked by
    a thread of its own. One works at a time: others may ask while ``cancelled`` of one is asked.

    Args:
        bundle: path of the bundle.
        engine: what runs it.
        limits: of the child.
        spin: whether idle workers of the engine spin.
        lanes: how many.
        clock: of the waits between restarts.
        stopped: whether the run is to end; looked at while the child works.
        start: starts a child with the descriptors that it is to have.

    Raises:
        EdgeVLMError: as ``edgevlm.load``.
        BackendError: the first child died, or was not ready within ``limits.start_s``.
    """

    def __init__(
        self,
        bundle: str,
        engine: EngineSection,
        limits: LimitsSection,
        spin: bool = False,
        lanes: int = 1,
        clock: Clock = SYSTEM,
        stopped: Callable[[], bool] = never,
        start: Callable[[Sequence[int]], Worker] = lambda passed: Worker(CHILD, passed),
    ) -> None:
        self.bundle = open_bundle(bundle, "size")  # the child verifies
        self._talk = threading.Lock()
        self._closed = False
        self._number = 0
        self._pictures, self._results = SharedArrays(), SharedArrays()
        load = Load(
            bundle=str(self.bundle.root),
            backend=engine.backend,
            threads=engine.threads,
            spin=spin,
            verify=engine.verify,
            cpu_fallback=engine.cpu_fallback,
            trust_engines=engine.trust_engines,
            fallback=engine.fallback,
            visual_tokens=engine.visual_tokens,
            memory_mb=limits.memory_mb,
            lanes=lanes,
        )
        passed = (self._pictures.descriptor, self._results.descriptor)
        self._supervisor = Supervisor(load, lambda: start(passed), limits.start_s, clock)
        self._exchange = Exchange(self._supervisor, limits, stopped, self._talk)
        try:
            self.ready = self._supervisor.first()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """Of the child, where there is one."""
        return self._supervisor.pid

    @property
    def shared_bytes(self) -> int:
        """Size of the shared memory."""
        return self._pictures.size + self._results.size

    def ask(
        self, make: Make, arrays: Sequence[Array], cancelled: Callable[[], bool]
    ) -> tuple[Answered | Gave, list[Array]] | None:
        """What the child gives for a question, with its arrays.

        Args:
            make: the question, from its number and the places of its arrays.
            arrays: that it is about.
            cancelled: asked between tokens, and while another child is waited for.

        Returns:
            None if it was given up before there was a child to ask.

        Raises:
            EdgeVLMError: what the child met.
            ContractError: a question that cannot be sent, or this is closed.
            BackendError: the child is lost.
            BackendGone: too many were.
        """
        with self._talk:
            channel = self._supervisor.channel(lambda: self._exchange.aside(cancelled))
            if channel is None:
                return None
            self._number += 1
            number, places = self._number, self._pictures.write(arrays)
            try:
                said = self._exchange.ask(channel, lambda: make(number, places), cancelled)
            except BackendError as exc:
                if self._closed:
                    raise ContractError("this model was closed while it was answering") from exc
                raise
            try:
                return said, self._taken(said.arrays) if isinstance(said, Gave) else []
            except ContractError as exc:
                raise self._supervisor.lost(Broken(f"gave {exc}"), channel) from exc

    def _taken(self, places: Sequence[Placed]) -> list[Array]:
        """Copies: what the child writes next goes to the same place."""
        return [np.array(self._results.read(place)) for place in places]

    def strange(self, what: str) -> BackendError:
        """The child is not to be trusted any more: the error to raise."""
        with self._talk:
            return self._supervisor.lost(Broken(f"gave {what}"))

    def poll(self) -> Iterator[BackendError | Notice]:
        """Look how the child is, and start another if it is time to; see ``Kept``."""
        if not self._talk.acquire(blocking=False):
            return  # somebody asks, and sees for himself
        try:
            said = [] if self._closed else self._supervisor.look()
        finally:
            self._talk.release()
        yield from said

    def close(self) -> None:
        """End the child and give the shared memory back.

        Legal in every state, from any thread, any number of times: a question under way ends with a
        ``ContractError``.
        """
        self._closed = True
        if not self._talk.acquire(blocking=False):
            self._supervisor.kill()
            self._talk.acquire()
        try:
            self._supervisor.close()
            self._pictures.close()
            self._results.close()
        finally:
            self._talk.release()
