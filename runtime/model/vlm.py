"""The model as users hold it: pictures and a question in, an answer out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from edgevlm.answer import Answer, Timing, TokenCounts
from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.decode import Budget, Generation, generate, never
from edgevlm.runtime.model.detokenize import TextStream
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.messages import pictures
from edgevlm.runtime.model.prompt import Prompt, PromptBuilder
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions
from edgevlm.runtime.model.vision import Encoded, VisionEncoder
from edgevlm.tensors import Float32

if TYPE_CHECKING:
    pass

Picture = "str | os.PathLike[str] | Image | UInt8"


@dataclass(slots=True)
class _Turn:
    """One question on its way through the model."""

    begun_ns: int
    encoded: list[Encoded] = field(default_factory=list)
    prompt_tokens: int = 0
    visual_tokens: int = 0
    prepare_ms: float = 0.0
    prefix_ms: float = 0.0
    generation: Generation = field(default_factory=Generation)


class Vlm:
    """A loaded bundle. Use one from one thread at a time; close it, or use ``with``.

    Args:
        bundle: an opened bundle.
        backend: runs its graphs.
    """

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.backend = backend
        self._lock = threading.Lock()
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
        graph = backend.load(bundle.path(manifest.graphs["decoder"].file))
        self._decoder = CachedDecoder(graph, manifest.kv, manifest.decoder.vocab_size)
        self._constant: tuple[int, ...] = ()  # tokens whose keys and values lie in the cache

    def ask(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        deadline_ns: int | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Answer:
        """One answer.

        Args:
            image: a picture (path, PIL image, uint8 RGB array ``(height, width, 3)``), a list of
                them, or None for a question about no picture.
            question: the user's text; pictures stand before it.
            messages: instead of both: a conversation in the OpenAI or Hugging Face shape, see
                ``edgevlm.runtime.model.messages.pictures``.
            system: system turn; the manifest's own when None.
            max_tokens: the answer's budget.
            temperature: 0 is greedy.
            top_p: nucleus, in (0, 1].
            seed: of the sampling.
            deadline_ns: monotonic time after which no further token is begun.
            cancelled: asked between tokens.

        Raises:
            ContractError: arguments that do not fit, a closed model, or a second call at once.
            ImageError: a picture that cannot be taken.
            ContextOverflow: the prompt does not fit the KV cache.
            BackendError: the engine failed.
        """
        turns = self._messages(image, question, messages, system)
        budget = Budget(max_tokens=max_tokens, deadline_ns=deadline_ns, cancelled=cancelled)
        sampling = SamplingOptions(temperature=temperature, top_p=top_p, seed=seed)
        with self._alone():
            turn = _Turn(time.perf_counter_ns())
            for _ in self._tokens(turn, turns, sampling, budget):
                pass
            return self._answer(turn)

    def stream(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Generator[str, None, Answer]:
        """The answer's text, piece by piece; arguments and errors as in ``ask``.

        The generator's return value is the whole ``Answer``.
        """
        turns = self._messages(image, question, messages, system)
        sampling = SamplingOptions(temperature=temperature, top_p=top_p, seed=seed)
        budget = Budget(max_tokens=max_tokens)
        return self._pieces(turns, sampling, budget)

    def _pieces(
        self, turns: list[Mapping[str, Any]], sampling: SamplingOptions, budget: Budget
    ) -> Generator[str, None, Answer]:
        with self._alone():
            turn = _Turn(time.perf_counter_ns())
            text = TextStream(self._tokenizer)
            for token in self._tokens(turn, turns, sampling, budget):
                if piece := text.push(token):
                    yield piece
            if piece := text.flush():
                yield piece
            return self._answer(turn)

    def encode(self, image: Any) -> Encoded:
        """One pass of the vision encoder.

        Raises:
            ContractError: the bundle has no vision encoder.
            ImageError: a picture that cannot be taken.
        """
        with self._alone():
            return self._encode(image)

    def close(self) -> None:
        """Release graphs and cache; may be called twice."""
        self._closed = True
        self._decoder.close()
        if self._vision is not None:
            self._vision.close()

    def __enter__(self) -> Vlm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._closed:
            raise ContractError("this model is closed; load it again")
        if not self._lock.acquire(blocking=False):
            raise ContractError(
                "this model is answering another call; load a second one for a second thread"
            )
        try:
            yield
        finally:
            self._lock.release()

    def _messages(
        self,
        image: Any,
        question: str | None,
        messages: Sequence[Mapping[str, Any]] | None,
        system: str | None,
    ) -> list[Mapping[str, Any]]:
        if (messages is None) == (question is None):
            raise ContractError("give a question, or messages=[...], and not both")
        if messages is not None:
            if image is not None:
                raise ContractError("with messages=, pictures stand in the messages")
            turns = list(messages)
        else:
            images = list(image) if isinstance(image, list | tuple) else [image]
            parts = [{"type": "image", "image": i} for i in images if i is not None]
            content = [*parts, {"type": "text", "text": question}]
            turns = [{"role": "user", "content": content}]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        return turns

    def _encode(self, image: Any) -> Encoded:
        if self._vision is None:
            raise ContractError(
                f"{self.bundle.manifest.name} has no vision encoder: it takes text only"
            )
        alpha = self.bundle.manifest.image.alpha if self.bundle.manifest.image else "drop"
        return self._vision.encode(load_image(image, alpha))

    def _tokens(
        self,
        turn: _Turn,
        messages: list[Mapping[str, Any]],
        sampling: SamplingOptions,
        budget: Budget,
    ) -> Iterator[int]:
        for picture in pictures(messages):
            turn.encoded.append(self._encode(picture))
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

    def _rows(self, prompt: Prompt, turn: _Turn) -> Float32:
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

    def _prefill_constant(self, prompt: Prompt, turn: _Turn) -> None:
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

    def _answer(self, turn: _Turn) -> Answer:
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
            backend=self.backend.name,
        )
