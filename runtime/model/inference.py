"""One question through the graphs: pictures, prompt, prefill, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.decode import Budget, Generation, generate
from edgevlm.runtime.model.detokenize import TextStream
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.messages import pictures
from edgevlm.runtime.model.prompt import Prompt, PromptBuilder
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions
from edgevlm.runtime.model.vision import Encoded, VisionEncoder
from edgevlm.tensors import Float32


@dataclass(slots=True)
class Turn:
    """One question on its way through the model."""

    begun_ns: int = field(default_factory=time.perf_counter_ns)
    encoded: list[Encoded] = field(default_factory=list)
    prompt_tokens: int = 0
    visual_tokens: int = 0
    prepare_ms: float = 0.0
    prefix_ms: float = 0.0
    generation: Generation = field(default_factory=Generation)


class Inference:
    """A bundle's tokenizer, prompt and graphs, working together. Not thread-safe.

    Args:
        bundle: an opened bundle.
        backend: runs its graphs.

    Raises:
        BundleCorrupt: a damaged tokenizer or template, or no embedding table.
        BackendError: a graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._backend = backend.name
        self._closed = False
        try:
            self._tokenizer = Tokenizer.from_str(bundle.read_text("tokenizer.json"))
        except Exception as exc:  # the tokenizers library raises plain Exception
            if isinstance(exc, BundleCorrupt):
                raise
            raise BundleCorrupt(f"{bundle.root}: tokenizer.json is not a tokenizer: {exc}") from exc
        template = manifest.prompt.chat_template
        self._prompts = PromptBuilder(
            manifest.prompt, bundle.read_text(template) if template else None, self._tokenizer
        )
        self._table = EmbeddingTable(bundle)
        self._stop_ids = frozenset(manifest.prompt.stop_token_ids)
        self._vision = VisionEncoder(bundle, backend) if "vision" in manifest.graphs else None
        graph = backend.load(bundle.path(manifest.graphs["decoder"].file), burst=True)
        self._decoder = CachedDecoder(graph, manifest.kv, manifest.decoder.vocab_size)
        self._constant: tuple[int, ...] = ()  # tokens whose keys and values lie in the cache

    def text_stream(self) -> TextStream:
        """A decoder of tokens to text, at its beginning."""
        return TextStream(self._tokenizer)

    def encode(self, image: Any) -> Encoded:
        """One pass of the vision encoder."""
        if self._vision is None:
            raise ContractError(f"{self._manifest.name} has no vision encoder: it takes text only")
        alpha = self._manifest.image.alpha if self._manifest.image else "drop"
        return self._vision.encode(load_image(image, alpha))

    def tokens(
        self,
        turn: Turn,
        messages: list[Mapping[str, Any]],
        sampling: SamplingOptions,
        budget: Budget,
    ) -> Iterator[int]:
        """Yield the answer's tokens, filling ``turn`` on the way.

        Raises:
            ContractError: messages that do not fit, or a model closed meanwhile.
            ContextOverflow: the prompt does not fit the cache.
        """
        for picture in pictures(messages):
            turn.encoded.append(self.encode(picture))
        begun = time.perf_counter_ns()
        prompt = self._prompts.build(messages, [e.labels for e in turn.encoded])
        rows = self._rows(prompt, turn)
        turn.prepare_ms = (time.perf_counter_ns() - begun) / 1e6
        self._prefill_constant(prompt, turn)
        for token in generate(
            self._decoder,
            self._table,
            rows,
            self._stop_ids,
            Sampler(sampling),
            budget,
            turn.generation,
        ):
            yield token
            if self._closed:
                raise ContractError("this model was closed while it was answering")

    def _rows(self, prompt: Prompt, turn: Turn) -> Float32:
        """Embeddings behind the constant part, pictures in their slots."""
        if prompt.image_count != len(turn.encoded):
            raise ContractError(
                f"the prompt has {prompt.image_count} image slots for {len(turn.encoded)} images"
            )
        first = () if prompt.image_count else prompt.texts[0]
        parts = [self._table.rows(first)] if first else []
        for encoded, text in zip(turn.encoded, prompt.texts[1:], strict=True):
            parts += [encoded.tokens, self._table.rows(text)]
            turn.visual_tokens += len(encoded.tokens)
        if not parts or not sum(map(len, parts)):
            raise ContractError("the prompt is empty")
        turn.prompt_tokens = sum(map(len, prompt.texts)) + turn.visual_tokens
        return np.concatenate(parts)

    def _prefill_constant(self, prompt: Prompt, turn: Turn) -> None:
        """Keep or compute the keys and values of the text before the first picture.

        It is always computed as a call of its own, so that an answer does not depend on whether
        the cache already held it.
        """
        constant = prompt.texts[0] if prompt.image_count else ()
        if constant != self._constant or self._decoder.length < len(constant):
            self._decoder.rewind(0)
            self._constant = ()
            if constant:
                begun = time.perf_counter_ns()
                self._decoder.append(self._table.rows(constant))
                turn.prefix_ms = (time.perf_counter_ns() - begun) / 1e6
            self._constant = constant
        self._decoder.rewind(len(constant))

    def answer(self, turn: Turn) -> Answer:
        """What a finished turn gave, and what it cost."""
        done = turn.generation
        return Answer(
            text=self._tokenizer.decode(done.token_ids, skip_special_tokens=True),
            token_ids=tuple(done.token_ids),
            finish_reason=done.finish_reason,
            confidence=done.confidence,
            timings_ms=Timing(
                preprocess=sum(e.preprocess_ms for e in turn.encoded) + turn.prepare_ms,
                encode=sum(e.encode_ms for e in turn.encoded),
                prefill=turn.prefix_ms + done.prefill_ms,
                decode=done.decode_ms,
                total=(time.perf_counter_ns() - turn.begun_ns) / 1e6,
            ),
            tokens=TokenCounts(
                visual=turn.visual_tokens, prompt=turn.prompt_tokens, output=len(done.token_ids)
            ),
            backend=self._backend,
        )

    def close(self) -> None:
        """Release graphs and cache; may be called twice."""
        self._closed = True
        self._decoder.close()
        if self._vision is not None:
            self._vision.close()
