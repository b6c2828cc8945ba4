"""Conversations in the shapes of OpenAI and Hugging Face: where their pictures are."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgevlm.errors import ContractError, ImageError
from edgevlm.runtime.model.image import MAX_FILE_BYTES

IMAGE_TYPES = ("image", "image_url")


def conversation(
    image: Any,
    question: str | None,
    messages: Sequence[Mapping[str, Any]] | None,
    system: str | None,
) -> list[Mapping[str, Any]]:
    """Messages of one call: the given ones, or one user turn, pictures first.

    Raises:
        ContractError: neither or both of a question and messages, or pictures beside messages.
    """
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


def pictures(messages: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Every picture of a conversation, in order: a path, a PIL image or an array.

    A part is ``{"type": "image", "image": ...}`` (Hugging Face; also ``path``) or ``{"type":
    "image_url", "image_url": {"url": ...}}`` (OpenAI) with a ``data:`` URI.

    Raises:
        ContractError: an image part without a picture, or with a URL that would need the network.
        ImageError: a ``data:`` URI that holds no picture, or a too large one.
    """
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, Sequence) and not isinstance(content, str):
            for part in content:
                if isinstance(part, Mapping) and part.get("type") in IMAGE_TYPES:
                    yield _picture(part)


def replaced(
    messages: Sequence[Mapping[str, Any]], by: Callable[[Any], Any]
) -> list[Mapping[str, Any]]:
    """The conversation with every picture replaced by what ``by`` gives for it.

    Raises:
        ContractError, ImageError: as ``pictures``.
    """

    def other(part: Any) -> Any:
        if not isinstance(part, Mapping) or part.get("type") not in IMAGE_TYPES:
            return part
        kept = {k: v for k, v in part.items() if k not in ("image", "path", "image_url")}
        return {**kept, "image": by(_picture(part))}

    def of(message: Mapping[str, Any]) -> Mapping[str, Any]:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, Sequence) or isinstance(content, str):
            return message
        return {**message, "content": [other(part) for part in content]}

    return [of(message) for message in messages]


def _picture(part: Mapping[str, Any]) -> Any:
    for key in ("image", "path"):
        if part.get(key) is not None:
            return part[key]
    address = part.get("image_url")
    url = address.get("url") if isinstance(address, Mapping) else address
    if not isinstance(url, str):
        raise ContractError(
            "an image part needs 'image' (path, PIL image or array) or 'image_url' with a data: URI"
        )
    if not url.startswith("data:"):
        raise ContractError(
            f"an image_url must be a data: URI, got {url.partition(':')[0]!r}: nothing is fetched "
            "from the network; load the picture and pass it as 'image'"
        )
    return _decode(url)


def _decode(url: str) -> Any:
    from PIL import Image

    head, comma, payload = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ImageError("a data: URI must be base64, as in data:image/png;base64,...")
    if len(payload) > MAX_FILE_BYTES * 4 // 3:
        raise ImageError(f"a data: URI holds more than {MAX_FILE_BYTES} bytes")
    try:
        raw = base64.b64decode(payload, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the pixel cap of load_image decides
            return Image.open(io.BytesIO(raw))
    except Exception as exc:  # Pillow raises whatever the bytes provoke
        raise ImageError(f"a data: URI holds no picture: {exc}") from exc


def question_in(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last turn of the user; of what is no message, nothing."""
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, Sequence) else ()
            if isinstance(content, str):
                return content
            texts = (p.get("text") for p in parts if isinstance(p, Mapping))
            return " ".join(t for t in texts if isinstance(t, str))
    return ""
