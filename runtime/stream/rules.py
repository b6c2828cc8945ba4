"""Rules at work: answers in, beginnings and ends of states out.

::

              when holds for for_s, cool-down over
        idle ─────────────────────────────────────▶ active
          ◀────────────────────────────────────────
                   until holds for clear_s
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgevlm.conditions import Condition
from edgevlm.rules import RuleSection, Zone

EVIDENCE_AT_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A state that begins or ends now.

    Args:
        rule: its name.
        phase: which of the two.
        state_id: the same for a beginning and its end.
        held_s: how long the state has been on; 0 at its beginning.
        evidence: ``seq`` of the answers on which it rests, oldest first.
    """

    rule: str
    phase: Literal["begin", "end"]
    state_id: str
    held_s: float
    evidence: tuple[int, ...]


@dataclass(slots=True)
class _State:
    """Where one rule stands."""

    active_id: str | None = None
    begun_s: float = 0.0
    turning_since_s: float | None = None  # since when the way out of the present state is open
    ended_s: float | None = None
    evidence: list[int] = field(default_factory=list)


class Rules:
    """The rules of one stream.

    Args:
        sections: as configured.
    """

    def __init__(self, sections: Sequence[RuleSection]) -> None:
        self._rules = [(_Rule(section), _State()) for section in sections]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def see(
        self, body: Mapping[str, Any], size_wh: tuple[int, int], seq: int, now_s: float
    ) -> Iterator[Change]:
        """Take one answer, new or still standing, and tell what begins and ends with it.

        Args:
            body: the event of the answer as JSON.
            size_wh: of its frame, in pixels.
            seq: of the event with the answer.
            now_s: when the frame was; never goes back.
        """
        for rule, state in self._rules:
            change = rule.step(state, body, size_wh, seq, now_s)
            if change is not None:
                yield change


class _Rule:
    def __init__(self, section: RuleSection) -> None:
        self._section = section
        self._when = [Condition.parse(text) for text in section.when]
        self._until = [Condition.parse(text) for text in section.until]

    def step(
        self,
        state: _State,
        body: Mapping[str, Any],
        size_wh: tuple[int, int],
        seq: int,
        now_s: float,
    ) -> Change | None:
        section = self._section
        if section.question not in (None, body.get("question")):
            return None
        on = self._on(body, size_wh)
        turns = self._off(body, on) if state.active_id else on
        if turns is None:
            return None
        if not turns:
            state.turning_since_s = None
            if not state.active_id:
                state.evidence.clear()
            return None
        if state.turning_since_s is None:
            state.turning_since_s = now_s
            if state.active_id:
                state.evidence.clear()
        if not state.evidence or state.evidence[-1] != seq:
            state.evidence.append(seq)
            if len(state.evidence) > EVIDENCE_AT_MOST:
                del state.evidence[1]
        wait = section.clear_s if state.active_id else section.for_s
        if now_s - state.turning_since_s < wait:
            return None
        return self._end(state, now_s) if state.active_id else self._begin(state, now_s)

    def _begin(self, state: _State, now_s: float) -> Change | None:
        ended = state.ended_s
        if ended is not None and now_s - ended < self._section.cooldown_s:
            return None
        state.active_id = uuid.uuid4().hex
        state.begun_s, state.turning_since_s = now_s, None
        return Change(
            rule=self._section.name,
            phase="begin",
            state_id=state.active_id,
            held_s=0.0,
            evidence=tuple(state.evidence),
        )

    def _end(self, state: _State, now_s: float) -> Change:
        assert state.active_id is not None
        change = Change(
            rule=self._section.name,
            phase="end",
            state_id=state.active_id,
            held_s=now_s - state.begun_s,
            evidence=tuple(state.evidence),
        )
        state.active_id, state.turning_since_s, state.ended_s = None, None, now_s
        state.evidence.clear()
        return change

    def _on(self, body: Mapping[str, Any], size_wh: tuple[int, int]) -> bool | None:
        told = [condition.holds(body) for condition in self._when]
        if self._section.zone is not None:
            told.append(_inside(self._section.zone, body, size_wh))
        return _all(told)

    def _off(self, body: Mapping[str, Any], on: bool | None) -> bool | None:
        if self._until:
            return _all([condition.holds(body) for condition in self._until])
        return None if on is None else not on


def _all(told: Sequence[bool | None]) -> bool | None:
    """True if all are, False if one is False, None if it depends on what is not told."""
    if any(value is False for value in told):
        return False
    return None if any(value is None for value in told) else True


def _inside(zone: Zone, body: Mapping[str, Any], size_wh: tuple[int, int]) -> bool | None:
    found: Any = body
    for part in zone.boxes.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    if not isinstance(found, list | tuple):
        return None
    width, height = size_wh
    for box in found:
        if not isinstance(box, list | tuple) or len(box) != 4:
            return None
        x, y = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
        if zone.left <= x <= zone.right and zone.top <= y <= zone.bottom:
            return True
    return False
