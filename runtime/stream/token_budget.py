"""Visual tokens that the streams of a box may spend together.

A bucket fills at the declared rate, up to ``burst`` tokens, and an answer takes out what its frame
takes of the prompt (a token bucket, as in RFC 2697, section 3). Nothing is divided beforehand: who
may take next is the schedule's to say, and a stream whose scene stands still takes nothing, so that
its part is the others'.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

RECENT = 8  # answers whose tokens count


class TokenBudget:
    """Knows no clock and no thread.

    An answer begins when as many tokens are there as the dearest of the stream's last ones took,
    or when the bucket is full. In any ``t`` seconds therefore no more is spent than ``rate * t``
    and one bucket, as long as no answer takes more than was expected of it and than a bucket holds;
    what one takes beyond is paid back before the next begins.

    Args:
        rate: visual tokens a second, above 0.
        burst_s: how many seconds of it may be saved up.
        expected: tokens of an answer, by stream, at the beginning.
    """

    def __init__(self, rate: float, burst_s: float, expected: Mapping[str, int]) -> None:
        self.rate = rate
        self._recent = {name: deque([tokens], maxlen=RECENT) for name, tokens in expected.items()}
        self.burst = max(rate * burst_s, *expected.values(), 1.0)
        self._level = self.burst
        self._at_ns: int | None = None
        self._held: dict[str, int] = {}  # taken out for an answer under way
        self.spent = dict.fromkeys(expected, 0)

    def need(self, name: str) -> int:
        """What an answer of this stream takes at most, as far as is known."""
        return max(self._recent[name])

    def seconds(self, name: str) -> float:
        """How long the budget takes to come by it."""
        return self.need(name) / self.rate

    def holds(self, name: str) -> bool:
        """True while tokens are taken out for an answer of this stream."""
        return name in self._held

    def affords(self, name: str, now_ns: int) -> bool:
        """True if an answer of this stream may begin."""
        return self._filled(now_ns) >= min(self.need(name), self.burst)

    def begin(self, name: str, now_ns: int) -> None:
        """One begins, and takes out what is expected of it."""
        self._held[name] = self.need(name)
        self._level = self._filled(now_ns) - self._held[name]

    def end(self, name: str, tokens: int | None, now_ns: int) -> None:
        """It has ended.

        Args:
            name: of the stream.
            tokens: that it took; None: nobody knows, and it took what was expected.
            now_ns: monotonic.
        """
        held = self._held.pop(name)
        took = held if tokens is None else tokens
        self._level = min(self.burst, self._filled(now_ns) + held - took)
        self.spent[name] += took
        if took:
            self._recent[name].append(took)

    def _filled(self, now_ns: int) -> float:
        if self._at_ns is not None and now_ns > self._at_ns:
            more = self.rate * (now_ns - self._at_ns) / 1e9
            self._level = min(self.burst, self._level + more)
        self._at_ns = now_ns if self._at_ns is None else max(now_ns, self._at_ns)
        return self._level
