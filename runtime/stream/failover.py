"""A stream that goes on while the engine it was to run on is made again.

::

    build ── ok ──▶ verify ── ok ──▶ load ── ok ──▶ swapped
      │                │               │
      └── failed ──────┼───────────────┘
             │         └─ gates missed: given up
             ├─ wait, build again (bounded)
             └─ given up: the fallback goes on answering

Nothing here waits: ``poll`` is called between two frames and looks how far the child is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from edgevlm.errors import BackendError, BundleError
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.compose import Notice
from edgevlm.runtime.stream.model import Kept, Model
from edgevlm.runtime.stream.worker import Child

WAITS_S = (30.0, 300.0)  # before the second and the third attempt


class Running(Protocol):
    """A started command; see ``Child``."""

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def last_words(self) -> str:
        """The last line that it said."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Failover:
    """The model that answers now, and the way back to the backend that was asked for.

    Args:
        model: on the fallback.
        missed: what was asked for, and why it is not there.
        load: loads the bundle on the backend that was asked for.
        clock: of the waits.
        start: starts a command.
    """

    def __init__(
        self,
        model: Model,
        missed: Missed,
        load: Callable[[], Model],
        clock: Clock,
        start: Callable[[Sequence[str]], Running] = Child,
    ) -> None:
        self.model: Model = model
        self._missed = missed
        self._load = load
        self._clock = clock
        self._start = start
        self._root = str(model.bundle.root)
        self._child: Running | None = None
        self._phase: Literal["build", "verify"] = "build"
        self._attempts = 0
        self._due_ns = clock.monotonic_ns()
        self._over = missed.target is None  # nothing that could be built

    def poll(self) -> Iterator[BackendError | Notice]:
        """See how far things are, and take the next step; ``model`` may be another afterwards.

        Yields:
            what failed, and what follows.
        """
        if isinstance(self.model, Kept):
            yield from self.model.poll()
        if self._over:
            return
        if self._child is None:
            if self._clock.monotonic_ns() >= self._due_ns:
                self._attempts += 1
                yield from self._begin("build")
            return
        code = self._child.ended()
        if code is None:
            return
        words = self._child.last_words()
        self._child.stop()
        self._child = None
        if code != 0:
            yield self._failed(words, final=self._phase == "verify")
        elif self._phase == "build":
            yield from self._begin("verify")
        else:
            yield from self._swap()

    def _begin(self, phase: Literal["build", "verify"]) -> Iterator[BackendError]:
        self._phase = phase
        words = [sys.executable, "-m", "edgevlm", phase, self._root]
        if phase == "build":
            # What lowering costs is not measured: `verify` measures the engines themselves.
            words += ["--target", str(self._missed.target), "--force", "--no-measure"]
        else:
            words += ["--backend", self._missed.backend]
        try:
            self._child = self._start(words)
        except BackendError as exc:
            yield self._failed(str(exc), final=False)

    def _swap(self) -> Iterator[BackendError]:
        try:
            model = self._load()
        except (BackendError, BundleError) as exc:
            yield self._failed(str(exc), final=False)
            return
        self.model.close()
        self.model = model
        self._over = True

    def _failed(self, words: str, *, final: bool) -> BackendError:
        missed, here = self._missed, self.model.backend.name
        what = "the engines of" if self._phase == "build" else "the new engines of"
        text = f"{self._phase} of {what} {missed.backend} failed: {words}"
        if final or self._attempts > len(WAITS_S):
            self._over = True
            return BackendError(
                f"{text}; {here} goes on answering; to try by hand: edgevlm build {self._root} "
                f"--target {missed.target} --force"
            )
        wait_s = WAITS_S[self._attempts - 1]
        self._due_ns = self._clock.monotonic_ns() + round(wait_s * 1e9)
        return BackendError(f"{text}; {here} goes on answering; tried again in {wait_s:.0f} s")

    def close(self) -> None:
        """Stop what runs and release the model; may be called twice."""
        self._over = True
        if self._child is not None:
            self._child.stop()
            self._child = None
        self.model.close()
