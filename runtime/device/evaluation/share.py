"""A share of things counted, and how surely it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgevlm.errors import ContractError

_Z = 1.959963984540054  # of the normal distribution, 95 % between its two sides


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many.

    Args:
        count: 0 to ``of``.
        of: how many were counted.

    Raises:
        ContractError: more than there are, or less than none.
    """

    count: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.of:
            raise ContractError(f"a share is 0 to n of n, got {self.count} of {self.of}")

    @property
    def value(self) -> float | None:
        """In [0, 1]; None of nothing."""
        return self.count / self.of if self.of else None

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, within [0, 1]; None of nothing.

        Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
        1927: the values that a test of the normal approximation does not reject.
        """
        if not self.of:
            return None
        share, per = self.count / self.of, _Z * _Z / self.of
        middle = (share + per / 2) / (1 + per)
        half = math.sqrt(per * (share * (1 - share) + per / 4)) / (1 + per)
        return max(0.0, middle - half), min(1.0, middle + half)

    def percent(self) -> str:
        """``85.0 [77.1, 90.5]``, or ``-`` of nothing."""
        ends = self.interval()
        if self.value is None or ends is None:
            return "-"
        return f"{100 * self.value:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"

    def plain(self) -> dict[str, float | int | None]:
        """For JSON."""
        low, high = self.interval() or (None, None)
        return {"count": self.count, "of": self.of, "share": self.value, "low": low, "high": high}
