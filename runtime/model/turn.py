"""One question on its way through the model, and the answer made of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.runtime.model.decode import Generation
from edgevlm.runtime.model.grammar import Guide
from edgevlm.runtime.model.prompt import Prompt
from edgevlm.runtime.model.vision import Encoded


@dataclass(slots=True)
class Turn:
    """One question: what was made of it so far."""

    begun_ns: int = field(default_factory=time.perf_counter_ns)
    encoded: list[Encoded] = field(default_factory=list)
    prompt: Prompt = field(default_factory=lambda: Prompt(((),)))
    prompt_tokens: int = 0
    visual_tokens: int = 0
    encode_ms: float = 0.0
    prepare_ms: float = 0.0
    prefix_ms: float = 0.0
    guide: Guide | None = None
    generation: Generation = field(default_factory=Generation)

    def answer(self, tokenizer: Tokenizer, backend: str, *, calibrated: bool) -> Answer:
        """What it gave, and what it cost; for a turn that is over."""
        done, guide = self.generation, self.guide
        whole = guide is not None and done.finish_reason == "stop"
        return Answer(
            text=tokenizer.decode(done.token_ids, skip_special_tokens=True),
            token_ids=tuple(done.token_ids),
            finish_reason=done.finish_reason,
            confidence=done.confidence,
            answer=guide.answer() if guide is not None and whole else None,
            field_confidence=guide.scores() if guide is not None and whole else {},
            calibrated=calibrated,
            timings_ms=Timing(
                preprocess=self.prepare_ms,
                encode=self.encode_ms,
                prefill=self.prefix_ms + done.prefill_ms,
                decode=done.decode_ms,
                total=(time.perf_counter_ns() - self.begun_ns) / 1e6,
            ),
            tokens=TokenCounts(
                visual=self.visual_tokens,
                prompt=self.prompt_tokens,
                output=len(done.token_ids),
                drafted=done.drafted,
                accepted=done.accepted,
                forced=done.forced,
            ),
            backend=backend,
        )
