"""The gates of one stream, asked one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from edgevlm.event import DropReason, GateTotals
from edgevlm.frame import Frame, UInt8
from edgevlm.gates import GateSection
from edgevlm.runtime.stream.gates.base import Compares, Gate, Verdict
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.tally import Tally
from edgevlm.runtime.stream.gates.view import View

Outcome = Literal["answer", DropReason]


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to become of a frame.

    Args:
        do: it gets an answer, the last answer stands, or it is dropped for this reason.
        by: the gate that decided; None: all let the frame through.
        asks: numbers of the questions that were asked, in a recording; empty: all of them.
    """

    do: Literal["answer", "reuse", DropReason] = "answer"
    by: str | None = None
    asks: tuple[int, ...] = ()


class Chain:
    """Asks gates in order; the first that has something against a frame decides.

    A gate that finds a frame the ``same`` says that what was decided before stands: if the frame
    that it compares with was answered, its answer does; if a gate behind it dropped that frame, the
    new one is dropped for the same reason, and the gate behind is not asked again. A gate that
    finds a frame ``due`` decides too, but those behind it are asked all the same, so that they
    know the frame.

    Args:
        gates: each with the section that it was made of.
        encoders: closed with the chain.
    """

    def __init__(self, gates: Sequence[tuple[GateSection, Gate]], encoders: Encoders) -> None:
        self._encoders = encoders
        self._gates = [gate for _, gate in gates]
        self._compare = [gate for gate in self._gates if isinstance(gate, Compares)]
        self._tally = Tally([section for section, _ in gates])
        self._settled: list[Outcome] = ["answer"] * len(gates)
        self._asked: list[int] = []

    def decide(self, view: View) -> Decided:
        """What is to become of the frame.

        Raises:
            SourceError: the frame's pixels cannot be read.
            BackendError: a gate's model failed.
        """
        self._asked = []
        by: int | None = None
        verdict: Verdict = "new"
        for at in range(len(self._gates)):
            said = self._look(at, view)
            if by is None and said != "new":
                by, verdict = at, said
            if by is not None and verdict != "due":
                break
        self._tally.decided(by, verdict == "due")
        if verdict == "absent":  # and not "moving": a view in motion says nothing about the scene
            self._settle("absent")
        return self._decided(by, verdict)

    def _look(self, at: int, view: View) -> Verdict:
        begun = time.perf_counter_ns()
        gate = self._gates[at]
        said = gate.look(view)
        self._asked.append(at)
        self._tally.cost(at, (time.perf_counter_ns() - begun) / 1e6, gate.measure)
        return said

    def _decided(self, by: int | None, verdict: Verdict) -> Decided:
        name = None if by is None else self._tally.names[by]
        if by is None or verdict in ("new", "due"):
            return Decided("answer", name)
        if verdict == "same":
            outcome = self._settled[by]
            return Decided("reuse" if outcome == "answer" else outcome, name)
        assert verdict == "moving" or verdict == "absent"
        return Decided(verdict, name)

    def accept(self) -> None:
        """The frame last decided about has its answer."""
        self._settle("answer")

    def _settle(self, outcome: Outcome) -> None:
        for at in self._asked:
            self._gates[at].settle(outcome == "answer")
            self._settled[at] = outcome

    def moved_on(self, frame: Frame) -> bool:
        """True if a later frame shows another scene than the one last decided about.

        Only gates that need no model have a say: it is asked while the model answers.
        """
        view = View(frame, 0.0, _busy)
        return all(gate.moved_on(view) for gate in self._compare)

    def totals(self) -> tuple[GateTotals, ...]:
        """What each gate did."""
        return self._tally.totals()

    def close(self) -> None:
        """Release the bundles that gates brought; may be called twice."""
        self._encoders.close()


def _busy(_image: UInt8) -> NoReturn:
    raise AssertionError("a gate that compares needs no model")
