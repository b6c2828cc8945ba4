"""What a bundle perceives without a language model: embeddings, labels by them, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.abilities import abilities, require
from edgevlm.bundle.text import SLOT, NoneSpec, TextSpec
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.label_scores import NONE, none_of, probabilities, with_none
from edgevlm.runtime.model.masks import MaskDecoder, Masks
from edgevlm.runtime.model.matching import Matcher
from edgevlm.runtime.model.relevance import by_embedding
from edgevlm.runtime.model.segmentation import Segmentation, segmented
from edgevlm.runtime.model.text_encoder import TextEncoder, checked_labels
from edgevlm.runtime.model.vision import Encoded, VisionEncoder
from edgevlm.tensors import Array, Float32


class Perception:
    """A bundle's encoders. Not thread-safe.

    The text encoder is loaded when the first text comes, and the mask decoder when the first
    masks are asked for: who only wants embeddings of pictures does not pay for them.

    Args:
        bundle: an opened bundle.
        backend: runs its graphs.
        vision: its vision encoder, where somebody else has loaded and will close it.

    Raises:
        BackendError: a graph does not load.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, vision: VisionEncoder | None = None
    ) -> None:
        self._bundle = bundle
        self._manifest = bundle.manifest
        self._backend = backend
        self._owns_vision = vision is None and "vision" in self._manifest.graphs
        self._vision = VisionEncoder(bundle, backend) if self._owns_vision else vision
        self._texts: TextEncoder | None = None
        self._masks: MaskDecoder | None = None
        self._matcher: Matcher | None = None
        self._last: tuple[tuple[str, ...], Float32] | None = None
        self._last_none: tuple[tuple[str, ...], Float32] | None = None

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One picture, among so many in a prompt, through the vision encoder.

        What is encoded already stays as it is.

        Raises:
            ContractError: there is none.
            ImageError: a picture that cannot be taken.
        """
        if isinstance(image, Encoded):
            return image
        if self._vision is None:
            raise ContractError(f"{self._manifest.name} has no vision encoder: it takes text only")
        alpha = self._manifest.image.alpha if self._manifest.image else "drop"
        return self._vision.encode(load_image(image, alpha), among)

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """How well frames fit a question; None where the bundle cannot tell.

        Where there are classes, they are asked: a question is no label, which is what the text
        encoder of such a bundle was trained for.

        Raises:
            ContextOverflow: the question is longer than the text encoder's context.
        """
        classes = self._manifest.prompt is not None and self._manifest.prompt.labels is not None
        if classes or "classify" not in abilities(self._manifest):
            return None if self._vision is None else self._vision.relevance(frames, question)
        (text,) = self.encode_text([question])
        return [by_embedding(frame.outputs["embedding"], text) for frame in frames]

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Embeddings of texts, float32 ``(texts, width)``, each of length 1.

        Raises:
            ContractError: there is no text encoder, or what came is no list of texts.
            ContextOverflow: a text is longer than the context.
        """
        return self._text_encoder().encode(texts)

    def text_inputs(self, texts: Sequence[str]) -> dict[str, Array]:
        """What the text encoder takes for some texts: int64 ``(texts, tokens)`` each.

        Raises:
            ContractError: there is no text encoder.
            ContextOverflow: a text is longer than the context.
        """
        return self._text_encoder().feeds(texts)

    def _text_encoder(self) -> TextEncoder:
        require(self._manifest, "encode_text")
        if self._texts is None:
            self._texts = TextEncoder(self._bundle, self._backend)
        return self._texts

    def classify(
        self,
        image: Any,
        labels: Sequence[str],
        template: str | None = None,
        none: bool | Sequence[str] = False,
    ) -> list[tuple[str, float]]:
        """Labels with probabilities in [0, 1], best first; ``NONE`` among them if asked for.

        Raises:
            ContractError: an encoder is missing, or arguments that do not fit.
            ImageError: a picture that cannot be taken.
            ContextOverflow: a label is longer than the context.
        """
        require(self._manifest, "classify")
        spec, embeds = self._of_labels(labels, template)
        other = none_of(none, spec)
        if other is not None and NONE in labels:
            raise ContractError(f"the label {NONE!r} is what `none` adds: leave one of them out")
        embedding = self.encode(image).outputs["embedding"][0]
        if other is None:
            chances, names = probabilities(embedding, embeds, spec), [*labels]
        else:
            chances = with_none(embedding, embeds, self._of_none(other), spec, other)
            names = [*labels, NONE]
        best = np.argsort(-chances, kind="stable")
        return [(names[i], float(chances[i])) for i in best]

    def _of_none(self, none: NoneSpec) -> Float32:
        """Embeddings of the texts that stand for it; the last ones are kept."""
        if self._last_none is None or self._last_none[0] != none.texts:
            self._last_none = none.texts, self.encode_text(none.texts)
        return self._last_none[1]

    def segment(
        self, image: Any, labels: Sequence[str], template: str | None = None
    ) -> Segmentation:
        """The best label of every pixel.

        Raises:
            ContractError: the encoder gives no patches that texts can be held against, or
                arguments that do not fit.
            ImageError: a picture that cannot be taken.
            ContextOverflow: a label is longer than the context.
        """
        require(self._manifest, "segment")
        spec, embeds = self._of_labels(labels, template)
        encoded = self.encode(image)
        return segmented(encoded, embeds, tuple(labels), spec, self._manifest.image)

    def _of_labels(self, labels: Sequence[str], template: str | None) -> tuple[TextSpec, Float32]:
        """Embeddings of labels in their template, and how they are scored."""
        spec = self._manifest.text
        assert spec is not None
        pattern = spec.template if template is None else template
        if SLOT not in pattern:
            raise ContractError(f"the template {pattern!r} has no place {SLOT} for the label")
        texts = tuple(pattern.replace(SLOT, label) for label in checked_labels(labels))
        return spec, self._label_embeds(texts)

    def masks(self, image: Any, **prompts: Any) -> Masks:
        """Masks of points and boxes; arguments as in ``MaskDecoder.decode``.

        Raises:
            ContractError: there is no mask decoder, or prompts that do not fit.
            ImageError: a picture that cannot be taken.
        """
        decoder = self.mask_decoder()
        return decoder.decode(self.encode(image), **prompts)

    def mask_decoder(self) -> MaskDecoder:
        """The mask decoder.

        Raises:
            ContractError: there is none.
        """
        require(self._manifest, "masks")
        if self._masks is None:
            self._masks = MaskDecoder(self._bundle, self._backend)
        return self._masks

    def matcher(self) -> Matcher:
        """The head that holds patches against a bank.

        Raises:
            ContractError: there is none.
        """
        require(self._manifest, "match")
        if self._matcher is None:
            self._matcher = Matcher(self._bundle, self._backend)
        return self._matcher

    def _label_embeds(self, texts: tuple[str, ...]) -> Float32:
        """Embeddings of the labels; the last ones are kept, as a stream asks for the same."""
        if self._last is None or self._last[0] != texts:
            self._last = texts, self.encode_text(texts)
        return self._last[1]

    def close(self) -> None:
        """Release the graphs; may be called twice."""
        if self._owns_vision and self._vision is not None:
            self._vision.close()
        for graph in (self._texts, self._masks, self._matcher):
            if graph is not None:
                graph.close()
