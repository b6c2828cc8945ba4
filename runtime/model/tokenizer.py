"""The bundle's tokenizer."""

from __future__ import annotations

from tokenizers import Tokenizer

from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt


def read_tokenizer(bundle: Bundle) -> Tokenizer:
    """Read ``tokenizer.json``.

    Raises:
        BundleCorrupt: it is missing, or not a tokenizer.
    """
    text = bundle.read_text("tokenizer.json")
    try:
        return Tokenizer.from_str(text)
    except Exception as exc:  # the tokenizers library raises plain Exception
        raise BundleCorrupt(f"{bundle.root}: tokenizer.json is not a tokenizer: {exc}") from exc
