"""One question through the graphs: pictures, prompt, prefill, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.bundle import Bundle
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.decode import Budget, Generation, generate
from edgevlm.runtime.model.decoder import load_decoder
from edgevlm.runtime.model.detokenize import TextStream
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.messages import pictures
from edgevlm.runtime.model.prompt import Prompt, PromptBuilder
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.rows_builder import RowsBuilder
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions
from edgevlm.runtime.model.seq2seq import Seq2SeqDecoder
from edgevlm.runtime.model.tokenizer import read_tokenizer
from edgevlm.runtime.model.vision import Encoded, VisionEncoder
from edgevlm.tensors import Array, Float32


@dataclass(slots=True)
class Turn:
    """One question on its way through the model."""

    begun_ns: int = field(default_factory=time.perf_counter_ns)
    encoded: list[Encoded] = field(default_factory=list)
    prompt: Prompt = field(default_factory=lambda: Prompt(((),)))
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
        watch: intermediate outputs of the decoder to keep, for the certificate.

    Raises:
        ContractError: the bundle has no language model.
        BundleCorrupt: a damaged tokenizer or template, or no embedding table.
        BackendError: a graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend, watch: tuple[str, ...] = ()) -> None:
        manifest = bundle.manifest
        self._manifest = manifest
        self._spec, _, prompt = manifest.language
        self._backend = backend.name
        self._closed = False
        self._tokenizer = read_tokenizer(bundle)
        template = prompt.chat_template
        self._prompts = PromptBuilder(
            prompt, bundle.read_text(template) if template else None, self._tokenizer
        )
        self._table = EmbeddingTable(bundle)
        self._stop_ids = frozenset(prompt.stop_token_ids)
        self._image_token = prompt.image_token_id
        self._vision = VisionEncoder(bundle, backend) if "vision" in manifest.graphs else None
        self._decoder = load_decoder(bundle, backend, self._table, watch)
        self._constant: tuple[int, ...] = ()  # tokens whose keys and values lie in the cache

    @property
    def vision(self) -> VisionEncoder | None:
        """The vision encoder, where the bundle has one."""
        return self._vision

    def text_stream(self) -> TextStream:
        """A decoder of tokens to text, at its beginning."""
        return TextStream(self._tokenizer)

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One picture through the vision encoder; ``among`` so many in the prompt."""
        if self._vision is None:
            raise ContractError(f"{self._manifest.name} has no vision encoder: it takes text only")
        alpha = self._manifest.image.alpha if self._manifest.image else "drop"
        return self._vision.encode(load_image(image, alpha), among)

    def begin(self, turn: Turn, messages: list[Mapping[str, Any]]) -> Rows:
        """Encode the pictures, build the prompt, and give the rows behind its constant part.

        Raises:
            ContractError: messages that do not fit.
        """
        given = list(pictures(messages))
        for picture in given:
            turn.encoded.append(self.encode(picture, len(given)))
        begun = time.perf_counter_ns()
        turn.prompt = self._prompts.build(
            messages, [e.labels for e in turn.encoded], [e.expansion for e in turn.encoded]
        )
        rows = self._rows(turn.prompt, turn)
        turn.prepare_ms = (time.perf_counter_ns() - begun) / 1e6
        return rows

    def prompt_ids(self, turn: Turn) -> list[int]:
        """The whole prompt as token ids, the image token (or -1) at every visual row."""
        image = -1 if self._image_token is None else self._image_token
        ids = list(turn.prompt.texts[0])
        for (n, m), text in zip(turn.prompt.segments, turn.prompt.texts[1:], strict=True):
            ids += [image] * len(turn.encoded[n].segments[m].rows) + list(text)
        return ids

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
        rows = self.begin(turn, messages)
        self._prefill_constant(turn)
        limit = min(budget.max_tokens, self._decoder.room(len(rows)) + 1)
        for token in generate(
            self._decoder,
            self._table,
            rows,
            self._stop_ids,
            LogitRules.of(self._manifest, self.prompt_ids(turn), limit),
            Sampler(sampling),
            budget,
            turn.generation,
        ):
            yield token
            if self._closed:
                raise ContractError("this model was closed while it was answering")

    def follow(self, turn: Turn, rows: Rows, tokens: Array) -> tuple[Float32, dict[str, Float32]]:
        """Logits, and the watched values, where an answer is given and not chosen.

        Args:
            turn: a begun turn.
            rows: of its prompt.
            tokens: int64 ``(steps,)``, the answer.

        Returns:
            float32 ``(steps, vocab_size)``: what the model would say in place of each token, and
            the watched values ``(steps, hidden_size)`` by name.
        """
        self._prefill_constant(turn)
        logits = [self._decoder.append(rows).copy()]
        seen = {name: [value[-1:].copy()] for name, value in self._decoder.watched.items()}
        for token in tokens[:-1].tolist():
            logits.append(self._decoder.append(self._table.rows([token])).copy())
            for name, value in self._decoder.watched.items():
                seen[name].append(value[-1:].copy())
        return np.concatenate(logits), {name: np.concatenate(v) for name, v in seen.items()}

    @property
    def encoded(self) -> Float32 | None:
        """The last prompt's rows behind the encoder, of an encoder-decoder."""
        return self._decoder.encoded if isinstance(self._decoder, Seq2SeqDecoder) else None

    def _rows(self, prompt: Prompt, turn: Turn) -> Rows:
        """Embeddings behind the constant part, pictures in their slots."""
        shown = {n for n, _ in prompt.segments}
        if shown != set(range(len(turn.encoded))):
            raise ContractError(
                f"the prompt has {len(shown)} image slots for {len(turn.encoded)} images"
            )
        constant = self._constant_part(prompt)
        first = () if constant else prompt.texts[0]
        builder = RowsBuilder(self._spec, len(constant))
        builder.text(self._table.rows(first))
        for (n, m), text in zip(prompt.segments, prompt.texts[1:], strict=True):
            segment = turn.encoded[n].segments[m]
            builder.picture(segment)
            builder.text(self._table.rows(text))
            turn.visual_tokens += len(segment.rows)
        rows = builder.rows()
        if not len(rows):
            raise ContractError("the prompt is empty")
        turn.prompt_tokens = sum(map(len, prompt.texts)) + turn.visual_tokens
        return rows

    def _constant_part(self, prompt: Prompt) -> tuple[int, ...]:
        """The text before the first picture, where its keys do not depend on what follows."""
        if not prompt.segments or self._spec.prefix_attention:
            return ()
        return prompt.texts[0]

    def _prefill_constant(self, turn: Turn) -> None:
        """Keep or compute the keys and values of the text before the first picture.

        It is always computed as a call of its own, so that an answer does not depend on whether
        the cache already held it.
        """
        constant = self._constant_part(turn.prompt)
        if constant != self._constant or self._decoder.length < len(constant):
            self._decoder.rewind(0)
            self._constant = ()
            if constant:
                begun = time.perf_counter_ns()
                self._decoder.append(self._table.rows(constant))
                self._decoder.mark()
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
