"""From messages to tokens: chat template, image slots, labels written into the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from edgevlm.bundle.prompt import PromptSpec
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.model.messages import IMAGE_TYPES, question_in
from edgevlm.runtime.model.prompt_texts import FrameTexts, Labels, write_labels
from edgevlm.runtime.model.vision import Encoded

Message = Mapping[str, Any]
Expansion = Sequence[str | int]
SceneText = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids between visual segments: ``texts[0] segment texts[1] segment ... texts[n]``.

    ``texts[0]`` does not depend on any picture, so its keys and values outlive the frame.

    Args:
        texts: token ids, one tuple more than there are segments.
        segments: per segment the number of the picture, and of the segment within it.
    """

    texts: tuple[tuple[int, ...], ...]
    segments: tuple[tuple[int, int], ...] = ()

    def ids(self, pictures: Sequence[Encoded], image_token: int) -> list[int]:
        """All of it as token ids, ``image_token`` at every visual row of ``pictures``."""
        ids = list(self.texts[0])
        for (n, m), text in zip(self.segments, self.texts[1:], strict=True):
            ids += [image_token] * len(pictures[n].segments[m].rows) + list(text)
        return ids


class PromptBuilder:
    """Renders messages through the checkpoint's own chat template, and tokenises them.

    Args:
        spec: prompt section of the manifest.
        template: source of the jinja2 template, or None where the text is the prompt.
        tokenizer: of the bundle.

    Raises:
        BundleCorrupt: the template does not compile.
    """

    def __init__(self, spec: PromptSpec, template: str | None, tokenizer: Tokenizer) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        self._spec = spec
        self._tokenizer = tokenizer
        self._template = None
        if template is not None:
            environment = ImmutableSandboxedEnvironment(
                trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
            )
            environment.globals["raise_exception"] = _raise
            try:
                self._template = environment.from_string(template)
            except TemplateError as exc:
                raise BundleCorrupt(f"the chat template does not compile: {exc}") from exc

    def build(
        self,
        messages: Sequence[Message],
        labels: Sequence[Labels] = (),
        pictures: Sequence[Expansion] = (),
        scenes: Sequence[SceneText] = (),
    ) -> Prompt:
        """Tokenise ``messages``.

        Args:
            messages: ``{"role": ..., "content": str | parts}``; a part is ``{"type": "text",
                "text": ...}`` or ``{"type": "image", ...}``.
            labels: per image, what the encoder saw; used where the manifest asks for it.
            pictures: per image, what stands for it: texts, and numbers of visual segments;
                without an entry, one segment.
            scenes: per image, what stands where in it, written for a question.

        Raises:
            ContractError: no message, one of another shape, text that contains the image marker,
                or a template that shows another number of images than the messages hold.
        """
        turns = self._turns(messages, labels, scenes)
        pieces = self._rendered(turns).split(self._spec.image_marker)
        shown = len(pieces) - 1
        expansions = [pictures[n] if n < len(pictures) else (0,) for n in range(shown)]
        prompt = (
            self._piecewise(pieces)
            if self._spec.image_token_id is None
            else self._whole(pieces, expansions, self._spec.image_token_id)
        )
        if self._spec.add_bos and self._spec.bos_token_id is not None:
            first = (self._spec.bos_token_id, *prompt.texts[0])
            prompt = Prompt((first, *prompt.texts[1:]), prompt.segments)
        return prompt

    def _rendered(self, turns: list[dict[str, Any]]) -> str:
        if self._template is None:
            return "".join(m["content"] for m in turns)
        try:
            return self._template.render(
                messages=turns,
                add_generation_prompt=True,
                bos_token=self._token(self._spec.bos_token_id),
                eos_token=self._token(self._spec.stop_token_ids[0]),
            )
        except Exception as exc:  # a template is a program, and fails as programs do
            raise ContractError(f"the chat template refuses these messages: {exc}") from exc

    def around_frames(self, system: str | None = None) -> FrameTexts:
        """What the template writes around pictures that come one after the other.

        Raises:
            ContractError: the template refuses a turn of two pictures.
        """
        marks = [chr(0xE000 + n) for n in range(3)]  # private use: in nobody's template
        texts = [{"type": "text", "text": mark} for mark in marks]
        image = {"type": "image"}
        content = [texts[0], image, texts[1], image, texts[2]]
        messages: list[Message] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        rendered = self._rendered(self._turns(messages, ()))
        first, between, last = rendered.split(self._spec.image_marker)
        head, texts_are_between, before = first.partition(marks[0])
        if texts_are_between:
            after = between.partition(marks[1])[0]
        else:  # this template puts all pictures first
            head, before, after = first, "", between
        question = last.replace(marks[0], "").replace(marks[1], "").removeprefix(after)
        return FrameTexts(head, before, after, *question.split(marks[2]))

    def frame(
        self,
        around: FrameTexts,
        caption: str,
        labels: Labels,
        expansion: Expansion,
        scene: str = "",
    ) -> Prompt:
        """One picture behind its caption, tokenised apart from what is before and behind it."""
        pieces, segments = [caption + around.before], []
        for part in expansion:
            if isinstance(part, int):
                segments.append((0, part))
                pieces.append("")
            else:
                pieces[-1] += part
        pieces[-1] += self._seen(labels, scene) + around.after
        return Prompt(tuple(map(self.tokens, pieces)), tuple(segments))

    def begin(self, around: FrameTexts) -> tuple[int, ...]:
        """What stands before all pictures."""
        bos = self._spec.bos_token_id
        first = () if bos is None or not self._spec.add_bos else (bos,)
        return (*first, *self.tokens(around.head))

    def _piecewise(self, pieces: list[str]) -> Prompt:
        """The marker is no token: the texts around it are tokenised apart."""
        segments = tuple((n, 0) for n in range(len(pieces) - 1))
        return Prompt(tuple(map(self.tokens, pieces)), segments)

    def _whole(self, pieces: list[str], expansions: list[Expansion], token_id: int) -> Prompt:
        """One image token a segment, the whole text tokenised at once, as processors do."""
        text, segments = [pieces[0]], []
        for n, expansion in enumerate(expansions):
            for part in expansion:
                if isinstance(part, int):
                    segments.append((n, part))
                    text.append(self._spec.image_marker)
                else:
                    text.append(part)
            text.append(pieces[n + 1])
        texts: list[list[int]] = [[]]
        for token in self.tokens("".join(text)):
            if token == token_id:
                texts.append([])
            else:
                texts[-1].append(token)
        if len(texts) != len(segments) + 1:
            raise ContractError(
                f"the text holds the image token {token_id} {len(texts) - 1} times for "
                f"{len(segments)} visual segments; take it out of the question"
            )
        return Prompt(tuple(map(tuple, texts)), tuple(segments))

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of a text as it is."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _token(self, token_id: int | None) -> str:
        return "" if token_id is None else str(self._tokenizer.id_to_token(token_id) or "")

    def _turns(
        self,
        messages: Sequence[Message],
        labels: Sequence[Labels],
        scenes: Sequence[SceneText] = (),
    ) -> list[dict[str, Any]]:
        if not messages:
            raise ContractError("there is no message to answer")
        asked = question_in(messages)
        seen = map(self._seen, labels, [scene(asked) for scene in scenes] or [""] * len(labels))
        turns: list[dict[str, Any]] = []
        for message in messages:
            known = message if isinstance(message, Mapping) else {}
            content = known.get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if not isinstance(parts, Sequence) or not isinstance(known.get("role"), str):
                raise ContractError(
                    "a message must be {'role': str, 'content': str or a list of parts}, "
                    f"got {message!r:.200}"
                )
            texts = [self._part(part, seen) for part in parts]
            turns.append({"role": str(message["role"]), "content": self._content(texts)})
        if self._spec.system is not None and "system" not in (m["role"] for m in turns):
            turns.insert(0, {"role": "system", "content": self._content([self._spec.system])})
        return turns

    def _seen(self, labels: Labels, scene: str) -> str:
        """What is written behind a picture: its labels, and what stands where."""
        written = write_labels(self._spec.labels, labels) if self._spec.labels else ""
        return written + (f"{scene} " if scene else "")

    def _content(self, texts: list[str]) -> Any:
        if self._spec.content == "text":
            return "".join(texts)
        marker = self._spec.image_marker
        return [
            {"type": "image"} if text == marker else {"type": "text", "text": text}
            for text in texts
        ]

    def _part(self, part: Any, seen: Iterator[str]) -> str:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in IMAGE_TYPES:
            return self._spec.image_marker + next(seen, "")
        if kind == "text" and isinstance(part.get("text"), str):
            if self._spec.image_marker in part["text"]:
                raise ContractError(
                    f"the text contains the image marker {self._spec.image_marker!r}; take it out"
                )
            return str(part["text"])
        raise ContractError(f"a content part must have the type text or image, got {part!r:.200}")


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
