"""What a bundle reads before its language model speaks: pictures and text, made into a prompt."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgevlm.bundle import Bundle
from edgevlm.errors import ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.messages import pictures
from edgevlm.runtime.model.prompt import PromptBuilder
from edgevlm.runtime.model.scene_reader import SceneReader
from edgevlm.runtime.model.tokenizer import read_tokenizer
from edgevlm.runtime.model.turn import Turn
from edgevlm.runtime.model.vision import Encoded, VisionEncoder, shown_rows


class Reader:
    """A bundle's tokenizer, chat template and vision encoder, without its decoder.

    Args:
        bundle: an opened bundle.
        backend: runs the vision graph.
        visual_tokens: of a picture, as in ``VisionEncoder``.

    Raises:
        ContractError: the bundle has no language model to read for.
        ConfigError: it has no such budget of visual tokens.
        BundleCorrupt: a damaged tokenizer or template.
        BackendError: the graph does not load.
    """

    def __init__(self, bundle: Bundle, backend: Backend, visual_tokens: int | None = None) -> None:
        shown_rows(bundle.manifest, visual_tokens)  # refused before anything is loaded
        self.manifest = bundle.manifest
        _, _, prompt = bundle.manifest.language
        self.tokenizer = read_tokenizer(bundle)
        template = prompt.chat_template
        self.prompts = PromptBuilder(
            prompt, bundle.read_text(template) if template else None, self.tokenizer
        )
        self.image_token = -1 if prompt.image_token_id is None else prompt.image_token_id
        sees = "vision" in bundle.manifest.graphs
        self.vision = VisionEncoder(bundle, backend, visual_tokens) if sees else None
        rule = prompt.scene
        self._scenes = None if rule is None else SceneReader(bundle, rule, backend)

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One picture through the vision encoder, unless it is encoded already.

        Args:
            image: the picture, or what came of it.
            among: so many pictures in the prompt.

        Raises:
            ContractError: there is none.
            ImageError: a picture that cannot be taken.
        """
        if isinstance(image, Encoded):
            return image
        if self.vision is None:
            raise ContractError(f"{self.manifest.name} has no vision encoder: it takes text only")
        alpha = self.manifest.image.alpha if self.manifest.image else "drop"
        return self.vision.encode(load_image(image, alpha), among)

    def scene(self, encoded: Encoded) -> str:
        """What stands where in a picture that no question is asked about yet."""
        return "" if self._scenes is None else self._scenes.read(encoded).text()

    def read(
        self, turn: Turn, messages: list[Mapping[str, Any]], encoded: Sequence[Encoded] = ()
    ) -> None:
        """Encode the pictures and build the prompt, both into ``turn``.

        Args:
            turn: a new one.
            messages: of the conversation.
            encoded: its pictures, where another turn has encoded them.

        Raises:
            ContractError: messages that do not fit.
        """
        given = [] if encoded else list(pictures(messages))
        turn.encoded = list(encoded) or [self.encode(p, len(given)) for p in given]
        fresh = [e for e, p in zip(turn.encoded, given, strict=False) if e is not p]
        turn.encode_ms = sum(e.encode_ms for e in fresh)
        turn.prepare_ms = sum(e.preprocess_ms for e in fresh)
        begun = time.perf_counter_ns()
        turn.prompt = self.prompts.build(
            messages,
            [e.labels for e in turn.encoded],
            [e.expansion for e in turn.encoded],
            [self._scenes.read(e).text for e in turn.encoded] if self._scenes else (),
        )
        shown = {n for n, _ in turn.prompt.segments}
        if shown != set(range(len(turn.encoded))):
            raise ContractError(
                f"the prompt has {len(shown)} image slots for {len(turn.encoded)} images"
            )
        turn.prepare_ms += (time.perf_counter_ns() - begun) / 1e6

    def prompt_ids(self, turn: Turn) -> list[int]:
        """The whole prompt as token ids, the image token (or -1) at every visual row."""
        return turn.prompt.ids(turn.encoded, self.image_token)

    def close(self) -> None:
        """Release the graphs; may be called twice."""
        if self._scenes is not None:
            self._scenes.close()
        if self.vision is not None:
            self.vision.close()
