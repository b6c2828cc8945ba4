"""How an answer is to be decoded: what a caller may choose besides the question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgevlm.runtime.model.decode import Budget
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.sampling import SamplingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Settings of one answer.

    Args:
        sampling: how tokens are chosen.
        budget: what ends the answer besides the model.
        schema: JSON Schema that it follows.
        drafts: what earlier answers teach; None drafts nothing.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    budget: Budget = field(default_factory=Budget)
    schema: Mapping[str, Any] | None = None
    drafts: Drafts | None = None


def drafts_of(given: Drafts | bool) -> Drafts | None:
    """What a caller's ``draft`` means: its own, new ones for a single answer, or none."""
    if isinstance(given, Drafts):
        return given
    return Drafts() if given else None
