"""Rules as users write them: which answers begin and end a state."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgevlm.area import Area
from edgevlm.conditions import Condition

ORDERED = ("=", "!=", "<", "<=", ">", ">=")


class Zone(Area):
    """A part of the picture, and the boxes that must lie in it.

    ``boxes`` is the field of the event with a list of ``[left, top, right, bottom]`` in pixels of
    the source frame; a box lies where its centre lies.
    """

    boxes: str = "boxes_xyxy"


class RuleSection(BaseModel):
    """When a state begins, and when it ends.

    Args:
        name: of the state.
        question: text of the question whose answers it looks at; None looks at all.
        when: conditions on the event that all hold, as in ``answer.person = true``.
        until: conditions that all hold for the state to end; without any it ends when ``when``
            does not hold. Hysteresis is ``when = ["answer.count >= 3"]``,
            ``until = ["answer.count <= 1"]``.
        for_s: ``when`` holds for so long before the state begins.
        clear_s: the ending holds for so long before the state ends.
        cooldown_s: after its end the state does not begin again for so long.
        zone: where a box must lie for ``when`` to hold.

    An answer that does not tell (a field is absent, or the answer was cut short) neither begins nor
    ends anything.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    question: str | None = None
    when: tuple[str, ...] = Field(min_length=1)
    until: tuple[str, ...] = ()
    for_s: float = Field(default=0.0, ge=0)
    clear_s: float = Field(default=0.0, ge=0)
    cooldown_s: float = Field(default=0.0, ge=0)
    zone: Zone | None = None

    @model_validator(mode="after")
    def _compares(self) -> RuleSection:
        for text in (*self.when, *self.until):
            condition = Condition.parse(text)
            if condition.operator not in ORDERED:
                raise ValueError(
                    f"{text!r}: a rule compares fields, it does not search texts: ask by schema"
                )
        return self
