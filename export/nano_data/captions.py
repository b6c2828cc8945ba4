"""What a caption names: its first noun phrase, or nothing where it tells a story."""

from __future__ import annotations

import re

LONGEST = 32
_ARTICLE = re.compile(r"^(?:an?|the|some|another|a pair of)\s+", re.IGNORECASE)
_PAIR = re.compile(r"^a pair of\s+", re.IGNORECASE)
_ASIDE = re.compile(r"\s*\([^)]*\)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")


def name_in(caption: str) -> str | None:
    """The thing that a caption names, in lower case and without article.

    Captions with advice, jokes or explanations ("Eat your broccoli!", "The yellow light means
    ...") name nothing that a picture could be asked for.

    Args:
        caption: one line of English.

    Returns:
        "great blue heron" for "A great blue heron."; None where it is no plain name.
    """
    text = _ASIDE.sub("", caption).strip()
    if not text.endswith(".") or text.count(".") > 1:
        return None
    text = text.removesuffix(".").strip()
    text = _PAIR.sub("", text) if _PAIR.match(text) else _ARTICLE.sub("", text)
    if not 0 < len(text) <= LONGEST or not _WORDS.fullmatch(text) or len(text.split()) > 4:
        return None
    return text.lower()
