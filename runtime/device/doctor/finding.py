"""One thing that was looked at, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a probe saw.

    ``ok``: as it should be, or rightly absent. ``warn``: works, but slower, smaller or less safe
    than it could. ``fail``: what this is about cannot work. ``unknown``: it could not be told.

    Args:
        what: the subject, the same word on every machine.
        verdict: see above.
        found: what is there, in words.
        remedy: the command or the step that mends it; empty where nothing needs mending.
        needed: nothing at all runs while this fails: `edgevlm doctor` then exits with 1.
    """

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""
    needed: bool = False
