"""From messages to tokens: chat template, image slots, labels written into the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from edgevlm.bundle.manifest import LabelPrompt, PromptSpec
from edgevlm.errors import BundleCorrupt, ContractError
from edgevlm.runtime.model.messages import IMAGE_TYPES

Message = Mapping[str, Any]
Labels = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids between images: ``texts[0] image texts[1] image ... texts[n]``.

    ``texts[0]`` does not depend on any picture, so its keys and values outlive the frame.
    """

    texts: tuple[tuple[int, ...], ...]

    @property
    def image_count(self) -> int:
        """How many pictures stand in the prompt."""
        return len(self.texts) - 1


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
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            environment.globals["raise_exception"] = _raise
            try:
                self._template = environment.from_string(template)
            except TemplateError as exc:
                raise BundleCorrupt(f"the chat template does not compile: {exc}") from exc

    def build(self, messages: Sequence[Message], labels: Sequence[Labels] = ()) -> Prompt:
        """Tokenise ``messages``.

        Args:
            messages: ``{"role": ..., "content": str | parts}``; a part is ``{"type": "text",
                "text": ...}`` or ``{"type": "image", ...}``.
            labels: per image, what the encoder saw; used where the manifest asks for it.

        Raises:
            ContractError: no message, one of another shape, or text that contains the image
                marker.
        """
        flat = self._flatten(messages, labels)
        if self._template is None:
            rendered = "".join(m["content"] for m in flat)
        else:
            try:
                rendered = self._template.render(
                    messages=flat,
                    add_generation_prompt=True,
                    bos_token=self._token(self._spec.bos_token_id),
                    eos_token=self._token(self._spec.stop_token_ids[0]),
                )
            except Exception as exc:  # a template is a program, and fails as programs do
                raise ContractError(f"the chat template refuses these messages: {exc}") from exc
        texts = [
            list(self._tokenizer.encode(piece, add_special_tokens=False).ids)
            for piece in rendered.split(self._spec.image_marker)
        ]
        if self._spec.add_bos and self._spec.bos_token_id is not None:
            texts[0].insert(0, self._spec.bos_token_id)
        return Prompt(tuple(map(tuple, texts)))

    def _token(self, token_id: int | None) -> str:
        return "" if token_id is None else str(self._tokenizer.id_to_token(token_id) or "")

    def _flatten(
        self, messages: Sequence[Message], labels: Sequence[Labels]
    ) -> list[dict[str, str]]:
        if not messages:
            raise ContractError("there is no message to answer")
        seen = iter(labels)
        flat = []
        for message in messages:
            known = message if isinstance(message, Mapping) else {}
            content = known.get("content")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            if not isinstance(parts, Sequence) or not isinstance(known.get("role"), str):
                raise ContractError(
                    "a message must be {'role': str, 'content': str or a list of parts}, "
                    f"got {message!r:.200}"
                )
            text = "".join(self._part(part, seen) for part in parts)
            flat.append({"role": str(message["role"]), "content": text})
        if self._spec.system is not None and "system" not in (m["role"] for m in flat):
            flat.insert(0, {"role": "system", "content": self._spec.system})
        return flat

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
