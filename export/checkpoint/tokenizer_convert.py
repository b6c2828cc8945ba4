"""A tokenizer for checkpoints that have none ready: from vocabulary files or sentencepiece.

transformers knows how each of its tokenizer classes reads these files, and is asked to. SigLIP's
class has no form that the ``tokenizers`` library can hold; it is built in ``siglip_tokenizer``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import read_json, reason
from edgevlm.export.checkpoint.siglip_tokenizer import siglip_tokenizer

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def convert_tokenizer(folder: Path) -> Tokenizer:
    """Make the tokenizer of a checkpoint folder without ``tokenizer.json``.

    Args:
        folder: holds ``vocab.json`` and ``merges.txt``, or a sentencepiece model.

    Raises:
        CheckpointError: there is neither, a file is damaged, or a package is missing.
    """
    pieces = next((folder / n for n in SENTENCEPIECE if (folder / n).is_file()), None)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if pieces is not None:
        wanted = _pieces(pieces)
    elif vocabulary.is_file() and merges.is_file():
        wanted = {str(token): number for token, number in read_json(vocabulary).items()}
    else:
        raise CheckpointError(
            f"{folder} has no tokenizer.json; save it with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...), or copy vocab.json and "
            f"merges.txt, or {SENTENCEPIECE[0]}, from the model it was tuned from"
        )
    made = _converted(folder)
    lost = [token for token, number in wanted.items() if made.id_to_token(number) != token]
    if lost:
        raise CheckpointError(
            f"{folder}: transformers made a tokenizer that lacks {len(lost)} tokens of the "
            f"checkpoint's own files, {lost[0]!r} among them: does tokenizer_class in "
            "tokenizer_config.json name the right one?"
        )
    return made


def _converted(folder: Path) -> Tokenizer:
    try:
        from transformers import AutoTokenizer
    except ImportError as exc:
        raise CheckpointError(
            f"{folder} has no tokenizer.json, and making one needs transformers: "
            "pip install 'edgevlm[export]'"
        ) from exc
    try:
        loaded: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as exc:  # transformers raises whatever a checkpoint provokes
        raise CheckpointError(
            f"{folder} has no tokenizer.json, and transformers makes none (is tokenizer_class in "
            f"tokenizer_config.json?): {_line(exc)}"
        ) from exc
    if type(loaded).__name__ == "SiglipTokenizer":
        return siglip_tokenizer(loaded)
    if not hasattr(loaded, "backend_tokenizer"):
        raise CheckpointError(
            f"{folder}: {type(loaded).__name__} has no form that runs without transformers: look "
            "for a conversion of the checkpoint with a tokenizer.json"
        )
    # through text: transformers hangs methods of its own onto the object
    return Tokenizer.from_str(loaded.backend_tokenizer.to_str())


def _pieces(path: Path) -> dict[str, int]:
    """Pieces of a sentencepiece model that stand for text, by their text."""
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as exc:
        raise CheckpointError(
            f"{path.parent} has no tokenizer.json, and reading {path.name} needs sentencepiece: "
            "pip install 'edgevlm[export]'"
        ) from exc
    try:
        model = SentencePieceProcessor(model_file=str(path))
    except Exception as exc:  # the library raises plain RuntimeError and OSError
        raise CheckpointError(f"{path} is not a sentencepiece model: {_line(exc)}") from exc
    return {
        model.id_to_piece(n): n
        for n in range(model.get_piece_size())
        if not (model.is_control(n) or model.is_unused(n) or model.is_unknown(n))
    }


def _line(exc: Exception) -> str:
    return f"{reason(exc):.300}"
