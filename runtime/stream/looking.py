"""A stream's look at one frame: its gates are asked, with the model where one needs its encoder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.config import RunConfig
from edgevlm.errors import BackendError, SourceError
from edgevlm.event import DropReason
from edgevlm.frame import Frame, UInt8
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.clock import Clock
from edgevlm.runtime.stream.gates.chain import Chain, Decided
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.lease import Lease
from edgevlm.runtime.stream.model import Model
from edgevlm.runtime.stream.recording.playback import Playback
from edgevlm.runtime.stream.window import SEVERAL


@dataclass(frozen=True, slots=True)
class Looked:
    """What the gates said, and what it took.

    Args:
        view: the frame; encoded, if a gate had it encoded.
        do: what is to become of the frame.
        gate_ms: without the encoder and without the wait for the model.
        held: the model was taken, and not given back.
        asks: as in ``Decided``.
    """

    view: View
    do: Literal["answer", "reuse", DropReason]
    gate_ms: float
    held: bool
    asks: tuple[int, ...] = ()

    def wait_ms(self, age_ms: float) -> float:
        """All else of a frame's age."""
        return max(0.0, age_ms - self.gate_ms - self.view.encode_ms)

    def answered(self, answer: Answer, wait_ms: float, age_ms: float) -> Answer:
        """Its own answer, with what happened before the model was asked."""
        timing = dataclasses.replace(
            answer.timings_ms, wait=wait_ms, gate=self.gate_ms, total=age_ms
        )
        return dataclasses.replace(answer, timings_ms=timing)

    def once_more(self, answer: Answer, age_ms: float) -> Answer:
        """A standing answer about this frame: what it took, and nothing was shown."""
        spent = self.view.encoded
        timing = Timing(
            wait=self.wait_ms(age_ms),
            gate=self.gate_ms,
            preprocess=spent.preprocess_ms if spent else 0.0,
            encode=spent.encode_ms if spent else 0.0,
            total=age_ms,
        )
        return dataclasses.replace(answer, timings_ms=timing, tokens=TokenCounts(), window=())


class _StoppedWaiting(Exception):
    """The run ended while a gate waited for the model."""


class Looking:
    """Looks at the frames of one stream.

    Args:
        config: of the stream.
        gates: of the stream.
        lease: on the model.
        clock: of costs.
    """

    def __init__(
        self, config: RunConfig, gates: Chain | Playback, lease: Lease, clock: Clock
    ) -> None:
        self._window = config.window is not None  # a frame is encoded as its answer will want it
        self._gates = gates
        self._lease = lease
        self._clock = clock

    def look(self, frame: Frame, now_s: float, model: Model, held: bool) -> Looked:
        """What is to become of a frame.

        Args:
            frame: the frame.
            now_s: its position in time.
            model: would answer.
            held: it is this stream's already.

        Raises:
            SourceError: the frame's pixels cannot be read; the model has been given back.
            BackendError: an encoder failed; likewise.
        """
        begun_ns, waited_ns = self._clock.monotonic_ns(), 0

        def encode(image: UInt8) -> Encoded:
            nonlocal held, waited_ns
            if not held:
                since_ns = self._clock.monotonic_ns()
                if not self._lease.take(frame):
                    raise _StoppedWaiting
                held, waited_ns = True, self._clock.monotonic_ns() - since_ns
            fitted = image if self._window else self._lease.caps.fit(image)
            return model.encode(fitted, SEVERAL if self._window else 1)

        view = View(frame, now_s, encode)
        try:
            decided = self._gates.decide(view)
        except _StoppedWaiting:
            decided = Decided("shutdown")
        except (SourceError, BackendError):
            self._lease.give()
            raise
        spent_ms = (self._clock.monotonic_ns() - begun_ns - waited_ns) / 1e6
        gate_ms = max(0.0, spent_ms - view.encode_ms)
        return Looked(view, decided.do, gate_ms, held, decided.asks)
