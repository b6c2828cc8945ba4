"""The model as users hold it: pictures and a question in, an answer out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.bundle.abilities import require
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.asking import Asking, asking_of, drafts_of_many, questions_of
from edgevlm.runtime.model.decode import never
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.inference import Inference
from edgevlm.runtime.model.masks import Masks
from edgevlm.runtime.model.matching import Matcher
from edgevlm.runtime.model.messages import conversation
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.one_caller import OneCaller
from edgevlm.runtime.model.perception import Perception
from edgevlm.runtime.model.segmentation import Segmentation
from edgevlm.runtime.model.session import Session, ring_of
from edgevlm.runtime.model.turn import Turn
from edgevlm.runtime.model.vision import Encoded
from edgevlm.tensors import Array, Float32


class Vlm:
    """A loaded bundle. Use one from one thread at a time; close it, or use ``with``.

    Args:
        bundle: an opened bundle.
        backend: runs its graphs.
        missed: the backend in whose place this one answers.
        visual_tokens: of a picture, one of the bundle's budgets; None is its default.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        missed: Missed | None = None,
        visual_tokens: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.missed = missed
        self._caller = OneCaller()
        speaks = "decoder" in bundle.manifest.graphs
        graphs = backend.select(bundle)
        self.parity = graphs.manifest.parity
        self._inference = Inference(graphs, backend, (), visual_tokens) if speaks else None
        shared = self._inference.vision if self._inference else None
        self._perception = Perception(graphs, backend, shared)

    def ask(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        schema: Any = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        draft: Drafts | bool = True,
        deadline_ns: int | None = None,
        cancelled: Callable[[], bool] = never,
    ) -> Answer:
        """One answer.

        Args:
            image: a picture (path, PIL image, uint8 RGB array ``(height, width, 3)``, or what
                ``encode`` gave for one), a list of them, or None for a question about no picture.
            question: the user's text; pictures stand before it.
            messages: instead of both: a conversation in the OpenAI or Hugging Face shape, see
                ``edgevlm.runtime.model.messages.pictures``.
            system: system turn; the manifest's own when None.
            schema: JSON Schema of an object, which the answer then is: a mapping, the path of a
                JSON file, or a pydantic model class. See ``docs/decoding.md``.
            max_tokens: the answer's budget.
            temperature: 0 is greedy.
            top_p: nucleus, in (0, 1].
            seed: of the sampling.
            draft: guess tokens of a greedy answer and have several confirmed at once, which never
                changes it; a ``Drafts`` learns from one answer to the next.
            deadline_ns: monotonic time after which no further token is begun.
            cancelled: asked between tokens, and between the chunks of a long prompt.

        Raises:
            ContractError: a bundle without a language model, arguments that do not fit, a closed
                model, or a second call at once.
            SchemaError: a schema that no answer can be held to.
            ConfigError: a schema, and llguidance is not installed.
            ImageError: a picture that cannot be taken.
            ContextOverflow: the prompt does not fit the KV cache.
            BackendError: the engine failed.
        """
        inference = self._speaking()
        turns = conversation(image, question, messages, system)
        asking = asking_of(
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            draft=draft,
            deadline_ns=deadline_ns,
            cancelled=cancelled,
        )
        with self._caller.alone():
            turn = Turn()
            for _ in inference.tokens(turn, turns, asking):
                pass
            return inference.answer(turn)

    def ask_many(
        self,
        image: Any,
        questions: Sequence[str | tuple[str, Any]],
        *,
        system: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        draft: Sequence[Drafts] | bool = True,
        together: bool = True,
        cancelled: Callable[[], bool] = never,
    ) -> list[Answer]:
        """Several questions about the same pictures, each as ``ask`` would answer it alone.

        The pictures are encoded once, and the rows that all prompts begin with (the pictures among
        them) go through the decoder once: every question starts from there. The rest goes through
        it four questions at a time, where the bundle and the backend can and every row comes out
        as it does alone (``docs/decoding.md``); else one question after another.

        Args:
            image: as in ``ask``.
            questions: texts, or pairs of a text and a schema as in ``ask``.
            system: as in ``ask``, like everything that follows; ``max_tokens`` is of each answer.
            max_tokens: of each answer.
            temperature: 0 is greedy.
            top_p: nucleus, in (0, 1].
            seed: of each answer's sampling.
            draft: as in ``ask``, for questions that are answered one after another; or one
                ``Drafts`` for each question, which learn from one such call to the next.
            together: several at a time. The first such call loads the decoder's weights a second
                time; False never does.
                Where memory ends, they are released for good.
            cancelled: as in ``ask``, of each answer.

        Returns:
            the answers, in the order of the questions. The first one's ``timings_ms`` bear what
            was done once for all, and each its share of what was done together.

        Raises:
            ContractError, ImageError, ContextOverflow, BackendError, SchemaError, ConfigError: as
                ``ask``; no question.
        """
        inference = self._speaking()
        asked = questions_of(questions)
        turns = [conversation(image, text, None, system) for text, _ in asked]
        asking = [
            asking_of(
                schema=schema,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                draft=drafts or False,
                cancelled=cancelled,
            )
            for (_, schema), drafts in zip(asked, drafts_of_many(draft, len(asked)), strict=True)
        ]
        with self._caller.alone():
            return list(inference.many([Turn() for _ in asked], turns, asking, together=together))

    def stream(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        schema: Any = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        draft: Drafts | bool = True,
    ) -> Generator[str, None, Answer]:
        """The answer's text, piece by piece; arguments and errors as in ``ask``.

        The generator's return value is the whole ``Answer``.
        """
        inference = self._speaking()
        turns = conversation(image, question, messages, system)
        asking = asking_of(
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            draft=draft,
        )
        return self._pieces(inference, turns, asking)

    def _pieces(
        self,
        inference: Inference,
        turns: list[Mapping[str, Any]],
        asking: Asking,
    ) -> Generator[str, None, Answer]:
        with self._caller.alone():
            turn = Turn()
            text = inference.text_stream()
            for token in inference.tokens(turn, turns, asking):
                if piece := text.push(token):
                    yield piece
            if piece := text.flush():
                yield piece
            return inference.answer(turn)

    def session(
        self,
        vision_tokens: int | None = None,
        text_tokens: int | None = None,
        system: str | None = None,
    ) -> Session:
        """A stream without end in the model's cache: frames are seen once, questions asked of them.

        Args:
            vision_tokens: positions for frames, captions included; half of the cache when None.
            text_tokens: positions for notes; an eighth when None.
            system: as in ``ask``.

        Raises:
            ContractError: no language model, a cache that cannot forget, or budgets without room.
        """
        inference = self._speaking()
        with self._caller.alone():
            parts = inference.session_parts(self._caller.alone)
            return Session(parts, ring_of(parts, vision_tokens, text_tokens), system)

    def _speaking(self) -> Inference:
        """The language model; a ``ContractError`` where there is none."""
        if self._inference is None:
            require(self.bundle.manifest, "ask")
            raise AssertionError("a bundle with a decoder has an inference")
        return self._inference

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One pass of the vision encoder. ``ask`` takes what comes out in place of the picture.

        Args:
            image: a picture, as in ``ask``.
            among: so many pictures will stand in the prompt; some families then cut no tiles.

        Raises:
            ContractError: the bundle has no vision encoder.
            ImageError: a picture that cannot be taken.
        """
        with self._caller.alone():
            return self._perception.encode(image, among)

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """How well frames fit a question, as far as the bundle itself can tell.

        Args:
            frames: what ``encode`` gave.
            question: a text.

        Returns:
            one value a frame, higher is better: the probability of the classes that the question
            names, or where the bundle has none, cosines by its text encoder; None where it has
            neither, or the question names no class.

        Raises:
            ContextOverflow: the question is longer than the text encoder's context.
        """
        with self._caller.alone():
            return self._perception.relevance(frames, question)

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Embeddings of texts, as they are: no template is put around them.

        Args:
            texts: at least one.

        Returns:
            float32 ``(texts, width)``, each of length 1; their products with
            ``encode(image).outputs["embedding"]`` are cosines.

        Raises:
            ContractError: the bundle has no text encoder, or what came is no list of texts.
            ContextOverflow: a text is longer than the encoder's context.
        """
        with self._caller.alone():
            return self._perception.encode_text(texts)

    def classify(
        self,
        image: Any,
        labels: Sequence[str],
        template: str | None = None,
        *,
        none: bool | Sequence[str] = False,
    ) -> list[tuple[str, float]]:
        """Which of ``labels`` the picture shows.

        Args:
            image: a picture, as in ``ask``, or what ``encode`` gave for it.
            labels: at least one.
            template: holds ``{}``, where a label is put; the bundle's own when None. ``"{}"``
                takes labels as they are.
            none: "none of these" is one more label, as the bundle declares it or by texts for it.

        Returns:
            labels with probabilities in [0, 1], best first, by the model's own rule: they sum to 1
            where it chooses among the labels (CLIP), and stand alone where it judges each (SigLIP).

        Raises:
            ContractError: no text encoder beside the vision encoder, or arguments that do not fit.
            ImageError: a picture that cannot be taken.
            ContextOverflow: a label is longer than the text encoder's context.
        """
        with self._caller.alone():
            return self._perception.classify(image, labels, template, none)

    def segment(
        self, image: Any, labels: Sequence[str], template: str | None = None
    ) -> Segmentation:
        """The best of ``labels`` for every pixel of the picture; arguments as in ``classify``.

        Raises:
            ContractError: the bundle has no text encoder beside an encoder whose patches can be
                held against texts, or arguments that do not fit.
        """
        with self._caller.alone():
            return self._perception.segment(image, labels, template)

    def masks(
        self,
        image: Any,
        *,
        points: Sequence[Any] | Array | None = None,
        labels: Sequence[Any] | Array | None = None,
        boxes: Sequence[Any] | Array | None = None,
        several: bool = True,
    ) -> Masks:
        """Masks of what points and boxes mean, at the picture's own resolution.

        Args:
            image: a picture, as in ``ask``, or what ``encode`` gave for it.
            points: ``(prompts, n, 2)``, x and y in the picture's pixels; prompts may differ in n.
            labels: ``(prompts, n)``, 1 inside the object and 0 outside; None is all inside.
            boxes: ``(prompts, 4)``: left, top, right, bottom.
            several: every reading of an ambiguous prompt, where the decoder gives several masks a
                prompt; else the one of a clear prompt.

        Raises:
            ContractError: the bundle has no mask decoder, or prompts that do not fit.
            ImageError: a picture that cannot be taken.
        """
        with self._caller.alone():
            return self._perception.masks(
                image, points=points, labels=labels, boxes=boxes, several=several
            )

    def matcher(self) -> Matcher:
        """The head that holds patches against banks; of the model, and closed with it.

        Raises:
            ContractError: the bundle has none.
        """
        with self._caller.alone():
            return self._perception.matcher()

    def close(self) -> None:
        """Release graphs and cache; may be called twice."""
        self._caller.close()
        self._perception.close()
        if self._inference is not None:
            self._inference.close()

    def __enter__(self) -> Vlm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
