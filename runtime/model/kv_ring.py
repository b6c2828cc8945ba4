"""A KV cache for streams without end: sinks stay, the oldest frames and texts make room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.passes import PREFILL_CHUNK
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.slots import Slotted

Region = Literal["vision", "text"]


class EvictingDecoder(Decoder, Protocol):
    """A decoder from whose cache positions can be taken."""

    @property
    def position(self) -> int:
        """Rotary position of the next row."""
        ...

    def evict(self, start: int, stop: int) -> None:
        """Forget positions; what is behind them moves up."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Rows that came together and go together.

    Args:
        region: whose budget they count in.
        at_s: their time, as the caller counts it.
        ids: their tokens, the image token at visual rows.
    """

    region: Region
    at_s: float
    ids: tuple[int, ...]


class KvRing:
    """Appends spans to a decoder's cache, and evicts the oldest of a region over its budget.

    ::

        sink | span span span ... in order of time, vision and text as they came | (a question)

    The sink is the beginning of the prompt: the first tokens draw attention whatever they say, and
    without them a model loses its thread. It stays where it is. Memory is the cache's own, from the
    first frame on; no position ever exceeds its capacity.

    Args:
        decoder: its cache becomes the ring's, empty at first.
        vision: positions for frames at most.
        text: positions for texts at most.

    Raises:
        ContractError: a decoder from which nothing can be evicted, or budgets that leave no room.

    Source: StreamingLLM (Xiao et al., 2023), section 3.2, for the sinks; StreamingVLM (Xu et al.,
    2025, arXiv:2510.09608) for regions of their own for vision and text.
    """

    def __init__(self, decoder: Decoder, *, vision: int, text: int) -> None:
        self.decoder = _evicting(decoder)
        if vision < 1 or text < 0 or vision + text >= decoder.capacity:
            raise ContractError(
                f"{vision} positions for frames and {text} for texts leave no room in a cache of "
                f"{decoder.capacity}"
            )
        self.decoder.rewind(0)
        self._budgets: dict[Region, int] = {"vision": vision, "text": text}
        self.sink: tuple[int, ...] = ()
        self.spans: list[Span] = []
        self.evicted = 0  # positions, since the beginning

    def begin(self, sink: Rows, ids: tuple[int, ...]) -> None:
        """Put the sink into the empty cache."""
        self.sink = ids
        self._append(sink)

    @property
    def ids(self) -> list[int]:
        """Tokens of everything that the cache holds."""
        return [*self.sink, *(token for span in self.spans for token in span.ids)]

    def held(self, region: Region) -> int:
        """Positions that a region holds."""
        return sum(len(span.ids) for span in self.spans if span.region == region)

    def make_room(self, span: Span) -> list[Span]:
        """Evict what must go before ``span`` can come.

        Returns:
            the spans that had to go.

        Raises:
            ContextOverflow: the span alone is over its region's budget.
        """
        count, budget = len(span.ids), self._budgets[span.region]
        if count > budget:
            raise ContextOverflow(
                f"{count} positions of {span.region} do not fit its {budget} in the ring"
            )
        gone: list[Span] = []
        while self.held(span.region) + count > budget:
            oldest = next(n for n, kept in enumerate(self.spans) if kept.region == span.region)
            gone.append(self._evict(oldest))
        return gone

    def append(self, rows: Rows, span: Span) -> None:
        """Append a span behind everything; there must be room.

        Args:
            rows: of the span; such as carry positions count on from ``decoder.position``.
            span: what they are.

        Raises:
            ContractError: ``make_room`` was not called, or rows and tokens differ in number.
        """
        if len(rows) != len(span.ids):
            raise ContractError(f"{len(rows)} rows for {len(span.ids)} tokens")
        if self.held(span.region) + len(rows) > self._budgets[span.region]:
            raise ContractError(f"there is no room for {len(rows)} positions of {span.region}")
        self._append(rows)
        self.spans.append(span)

    def forget(self, unwanted: Callable[[Span], bool]) -> list[Span]:
        """Evict all spans that are unwanted; which those were."""
        found = [n for n, span in enumerate(self.spans) if unwanted(span)]
        return [self._evict(n) for n in reversed(found)][::-1]

    def _evict(self, number: int) -> Span:
        start = len(self.sink) + sum(len(span.ids) for span in self.spans[:number])
        span = self.spans.pop(number)
        self.decoder.evict(start, start + len(span.ids))
        self.evicted += len(span.ids)
        return span

    def _append(self, rows: Rows) -> None:
        for start in range(0, len(rows), PREFILL_CHUNK):
            self.decoder.append(rows.part(start, min(start + PREFILL_CHUNK, len(rows))))


def _evicting(decoder: Decoder) -> EvictingDecoder:
    if isinstance(decoder, Slotted) and decoder.evicts:
        return decoder
    raise ContractError(
        "this model's cache cannot forget frames: it has an encoder of its own, a prompt that sees "
        "itself in both directions, convolutions, or a graph that does not update it in place"
    )
