"""What another model, precision or prompt says otherwise about the same frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers about one frame.

    Args:
        frame: its index.
        question: as the recording asked it.
        media_s: its position in the source, where it has one.
        before: the recorded event; None where the recording has no answer (it failed).
        after: the replayed event; None where the replay has none.
    """

    frame: int
    question: str
    media_s: float | None
    before: Body | None
    after: Body | None

    @property
    def same(self) -> bool:
        """True if text, answer by schema and reason to end are the same."""
        if self.before is None or self.after is None:
            return False
        return all(self.before[k] == self.after[k] for k in ("text", "answer", "finish_reason"))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an answer by schema that differ."""
        before = (self.before or {}).get("answer") or {}
        after = (self.after or {}).get("answer") or {}
        keys = [*before, *(key for key in after if key not in before)]
        return tuple(
            k for k in keys if before.get(k) != after.get(k) or (k in before) != (k in after)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """A recording and its replay, answer by answer.

    Args:
        pairs: every frame that was asked about, in order.
        states_before: ``(rule, phase, frame)`` of the recorded states.
        states_after: of the replayed ones.
    """

    pairs: tuple[Pair, ...]
    states_before: tuple[tuple[str, str, int], ...]
    states_after: tuple[tuple[str, str, int], ...]

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The frames about which something else is said."""
        return tuple(pair for pair in self.pairs if not pair.same)

    @property
    def states_gone(self) -> tuple[tuple[str, str, int], ...]:
        """Changes of states that the replay has not."""
        return tuple(s for s in self.states_before if s not in self.states_after)

    @property
    def states_new(self) -> tuple[tuple[str, str, int], ...]:
        """Changes of states that the recording has not."""
        return tuple(s for s in self.states_after if s not in self.states_before)


def compare(
    recorded: Iterable[Body],
    replayed: Iterable[Body],
    asked: Sequence[str] = (),
    asked_again: Sequence[str] = (),
) -> Diff:
    """Pair the answers of two runs by their frames and questions.

    Args:
        recorded: the events of the recording.
        replayed: those of its replay.
        asked: the questions of the recording, in order.
        asked_again: those of the replay; one in the place of another is compared with it.
    """
    before, states_before = _sorted_out(recorded, asked)
    after, states_after = _sorted_out(replayed, asked_again)
    pairs = []
    for frame, number in sorted(before.keys() | after.keys()):
        was, now = before.get((frame, number)), after.get((frame, number))
        either = was or now or {}
        pairs.append(
            Pair(
                frame=frame,
                question=either.get("question", ""),
                media_s=either.get("media_s"),
                before=was,
                after=now,
            )
        )
    return Diff(pairs=tuple(pairs), states_before=states_before, states_after=states_after)


def _sorted_out(
    events: Iterable[Body], asked: Sequence[str]
) -> tuple[dict[tuple[int, int], Body], tuple[tuple[str, str, int], ...]]:
    """Answers by their frame and the number of their question, and states."""
    numbers = {text: number for number, text in enumerate(asked)}
    answers: dict[tuple[int, int], Body] = {}
    states = []
    for event in events:
        if event["kind"] == "answer" and not event["reused"]:
            answers[event["frame"], numbers.get(event.get("question", ""), 0)] = event
        elif event["kind"] == "state":
            states.append((event["rule"], event["phase"], event["frame"]))
    return answers, tuple(states)
