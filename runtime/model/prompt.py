"""From messages to tokens: chat template, image slots, labels written into the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from edgevlm.bundle.prompt import LabelPrompt, PromptSpec
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.model.messages import IMAGE_TYPES

Message = Mapping[str, Any]
Labels = Sequence[tuple[str, float]]
Expansion = Sequence[str | int]


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
    ) -> Prompt:
        """Tokenise ``messages``.

        Args:
            messages: ``{"role": ..., "content": str | parts}``; a part is ``{"type": "text",
                "text": ...}`` or ``{"type": "image", ...}``.
            labels: per image, what the encoder saw; used where the manifest asks for it.
            pictures: per image, what stands for it: texts, and numbers of visual segments;
                without an entry, one segment.

        Raises:
            ContractError: no message, one of another shape, text that contains the image marker,
                or a template that shows another number of images than the messages hold.
        """
        turns = self._turns(messages, labels)
        if self._template is None:
            rendered = "".join(m["content"] for m in turns)
        else:
            try:
                rendered = self._template.render(
                    messages=turns,
                    add_generation_prompt=True,
                    bos_token=self._token(self._spec.bos_token_id),
                    eos_token=self._token(self._spec.stop_token_ids[0]),
                )
            except Exception as exc:  # a template is a program, and fails as programs do
                raise ContractError(f"the chat template refuses these messages: {exc}") from exc
        pieces = rendered.split(self._spec.image_marker)
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

    def _piecewise(self, pieces: list[str]) -> Prompt:
        """The marker is no token: the texts around it are tokenised apart."""
        segments = tuple((n, 0) for n in range(len(pieces) - 1))
        return Prompt(tuple(map(self._encode, pieces)), segments)

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
        for token in self._encode("".join(text)):
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

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _token(self, token_id: int | None) -> str:
        return "" if token_id is None else str(self._tokenizer.id_to_token(token_id) or "")

    def _turns(self, messages: Sequence[Message], labels: Sequence[Labels]) -> list[dict[str, Any]]:
        if not messages:
            raise ContractError("there is no message to answer")
        seen = iter(labels)
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

    def _content(self, texts: list[str]) -> Any:
        if self._spec.content == "text":
            return "".join(texts)
        marker = self._spec.image_marker
        return [
            {"type": "image"} if text == marker else {"type": "text", "text": text}
            for text in texts
        ]

    def _part(self, part: Any, labels: Any) -> str:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in IMAGE_TYPES:
            written = next(labels, ())
            rule = self._spec.labels
            return self._spec.image_marker + (write_labels(rule, written) if rule else "")
        if kind == "text" and isinstance(part.get("text"), str):
            if self._spec.image_marker in part["text"]:
                raise ContractError(
                    f"the text contains the image marker {self._spec.image_marker!r}; take it out"
                )
            return str(part["text"])
        raise ContractError(f"a content part must have the type text or image, got {part!r:.200}")


def write_labels(rule: LabelPrompt, labels: Labels) -> str:
    """The sentence that tells the language model what the encoder saw.

    Args:
        rule: template, and how many labels.
        labels: names with probabilities in [0, 1], best first.
    """
    kept = [
        rule.item.format(name=name, percent=round(100 * probability))
        for n, (name, probability) in enumerate(labels[: rule.top])
        if n == 0 or probability >= rule.min_probability
    ]
    return rule.template.format(labels=", ".join(kept)) if kept else ""


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
