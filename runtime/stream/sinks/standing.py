"""What is to be written on a frame: the answers that stand, and the states that are on."""

from __future__ import annotations

from edgevlm.event import AnswerEvent, Event, StateEvent


class Standing:
    """Follows the events of one stream."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}  # by question
        self._states: dict[str, str] = {}

    @property
    def text(self) -> str:
        """The answer that stands; of several questions, one behind the other."""
        return " | ".join(self._answers.values())

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the rules whose states are on."""
        return tuple(self._states)

    def take(self, event: Event) -> None:
        """Note one event."""
        if isinstance(event, StateEvent):
            self._states.pop(event.rule, None)
            if event.phase == "begin":
                self._states[event.rule] = event.state_id
        elif isinstance(event, AnswerEvent):
            self._answers[event.question] = event.text
