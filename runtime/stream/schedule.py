"""Which stream has the model next.

Two rules, in this order:

1. A stream that is *owed* an answer goes first, the one whose answer is due soonest before the
   others (earliest deadline first: Liu and Layland, 1973, section 7). A stream is owed one answer
   in each of its periods. What it did not ask for does not add up, and what it gets beside that
   is not set against it (sporadic tasks: Mok, 1983).
2. Then goes the highest priority, among equals what is due first, and then who asked first.

The periods come from the promised rates, and from a share that is everybody's: ``EVERYBODY`` of the
time, in which all streams get answers at one rate, so that none starves whatever the others' rates
and priorities are. Where rates are promised that the model cannot keep, those of the higher
priorities are kept and the last one in part. Periods times costs therefore fill the time at most
once, and then earliest deadline first misses none by more than what cannot be interrupted.

Where visual tokens are budgeted, an answer takes the time of the model or the time in which its
tokens come in, whichever is longer, and everything above holds of that time. Who goes first waits
for its tokens, and nobody overtakes it: cheap answers do not starve dear ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgevlm.runtime.stream.token_budget import TokenBudget

EVERYBODY = 0.1
RECENT = 8  # answers whose costs count
UNKNOWN_S = 1.0  # cost of an answer before the first one
NEVER_NS = 2**62


@dataclass(frozen=True, slots=True)
class Claim:
    """What a stream may want of the model.

    Args:
        priority: higher goes first.
        min_rate_hz: promised answers a second; 0 promises none.
    """

    priority: int = 0
    min_rate_hz: float = 0.0


def kept_rates(claims: Mapping[str, Claim], costs_s: Mapping[str, float]) -> dict[str, float]:
    """The rate in Hz at which each stream is owed answers; with the costs they fill 1 at most.

    Args:
        claims: by stream.
        costs_s: seconds of the model for one answer, by stream, above 0.
    """
    common = EVERYBODY / sum(costs_s[name] for name in claims)
    left = 1.0 - EVERYBODY
    rates = {}
    for name in sorted(claims, key=lambda n: -claims[n].priority):
        more = max(0.0, claims[name].min_rate_hz - common)
        more = min(more, left / costs_s[name])
        left -= more * costs_s[name]
        rates[name] = common + more
    return rates


@dataclass(slots=True)
class _Standing:
    """How things stand with one stream. Times in nanoseconds.

    ``owed_ns``: from when on its next answer is owed. ``late_ns``: how long it already was when the
    last one ended. ``asked_ns``: None while it wants nothing.
    """

    costs: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    owed_ns: int = 0
    late_ns: int = 0
    asked_ns: int | None = None
    due_ns: int = NEVER_NS
    used_ns: int = 0
    begun_ns: int | None = None


Rank = tuple[int, int, int, int]


class Schedule:
    """Who goes next; knows no clock and no thread.

    Args:
        claims: by stream.
        costs_s: what answers are expected to take of the model, by stream, where that is known.
        budget: of visual tokens, where they are bounded.
    """

    def __init__(
        self,
        claims: Mapping[str, Claim],
        costs_s: Mapping[str, float] | None = None,
        budget: TokenBudget | None = None,
    ) -> None:
        self._claims = dict(claims)
        self._budget = budget
        self._of = {name: _Standing() for name in claims}
        for name, cost_s in (costs_s or {}).items():
            self._of[name].costs.append(max(1, round(cost_s * 1e9)))
        self._periods_ns: dict[str, int] = {}
        self._plan()

    def ask(self, name: str, now_ns: int, due_ns: int = NEVER_NS) -> None:
        """A stream wants the model from now on, for an answer that is due at ``due_ns``."""
        stream = self._of[name]
        stream.asked_ns, stream.due_ns, stream.used_ns = now_ns, due_ns, 0
        stream.owed_ns = max(stream.owed_ns, now_ns - stream.late_ns)

    def withdraw(self, name: str) -> None:
        """It does not want it any more."""
        self._of[name].asked_ns = None

    def next(self, now_ns: int) -> str | None:
        """The stream that goes first of those that want to; None without any, or any that may."""
        waiting = [n for n, s in self._of.items() if s.asked_ns is not None and s.begun_ns is None]
        first = min(waiting, key=lambda n: self._rank(n, now_ns), default=None)
        budget = self._budget
        if first is None or budget is None or budget.holds(first) or budget.affords(first, now_ns):
            return first
        # Those that were interrupted have their tokens.
        begun = [name for name in waiting if budget.holds(name)]
        return min(begun, key=lambda n: self._rank(n, now_ns), default=None)

    def begin(self, name: str, now_ns: int) -> None:
        """It has the model, for the first time or again."""
        self._of[name].begun_ns = now_ns
        if self._budget is not None and not self._budget.holds(name):
            self._budget.begin(name, now_ns)

    def preempted(self, holder: str, now_ns: int) -> bool:
        """True if a stream waits that goes before the one that has the model."""
        first = self.next(now_ns)
        return first is not None and self._rank(first, now_ns) < self._rank(holder, now_ns)

    def lend(self, name: str, now_ns: int) -> None:
        """It gives the model to another one and wants it back."""
        stream = self._of[name]
        assert stream.begun_ns is not None
        stream.used_ns += now_ns - stream.begun_ns
        stream.begun_ns = None

    def end(self, name: str, now_ns: int, visual: int | None = None) -> None:
        """Its answer is complete, or given up; ``visual`` as in ``TokenBudget.end``."""
        self.lend(name, now_ns)
        if self._budget is not None:
            self._budget.end(name, visual, now_ns)
        stream = self._of[name]
        stream.asked_ns = None
        stream.costs.append(max(1, stream.used_ns))
        self._plan()
        if now_ns >= stream.owed_ns:
            stream.owed_ns += self._periods_ns[name]
        stream.late_ns = min(max(0, now_ns - stream.owed_ns), self._periods_ns[name])

    def cost_s(self, name: str) -> float:
        """What an answer of this stream took at most, of late."""
        costs = self._of[name].costs
        cost_s = max(costs) / 1e9 if costs else UNKNOWN_S
        return cost_s if self._budget is None else max(cost_s, self._budget.seconds(name))

    def period_s(self, name: str) -> float:
        """In so many seconds it is owed one answer."""
        return self._periods_ns[name] / 1e9

    def _plan(self) -> None:
        rates = kept_rates(self._claims, {name: self.cost_s(name) for name in self._claims})
        self._periods_ns = {name: round(1e9 / rate) for name, rate in rates.items()}

    def _rank(self, name: str, now_ns: int) -> Rank:
        stream = self._of[name]
        asked_ns = now_ns if stream.asked_ns is None else stream.asked_ns
        if now_ns >= stream.owed_ns:
            return (0, stream.owed_ns + self._periods_ns[name], 0, asked_ns)
        return (1, -self._claims[name].priority, stream.due_ns, asked_ns)
