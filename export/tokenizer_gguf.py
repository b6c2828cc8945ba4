"""Rebuild a fast tokenizer from the metadata of a GGUF file, without any network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from edgevlm.errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

# How a text is cut before byte-pair merging, by `tokenizer.ggml.pre`. The expressions are facts
# of the published tokenizers (GPT-4's cl100k and its Qwen variant, which takes digits one by one).
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, byte_level])
    if name in ("gpt-2", "default"):
        return byte_level
    if name in ("qwen2", "llama-bpe"):
        pattern = Regex(_CL100K % ("1" if name == "qwen2" else "1,3"))
        split = pre_tokenizers.Split(pattern, behavior="isolated", invert=False)
        return pre_tokenizers.Sequence([split, bytes_only])
    raise CheckpointError(
        f"pre-tokenizer {name!r} is not known; known: smollm, gpt-2, default, qwen2, llama-bpe"
    )


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """A byte-level BPE tokenizer.

    Args:
        metadata: of the GGUF file.

    Raises:
        CheckpointError: another kind of tokenizer, an unknown pre-tokenizer, or missing lists.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise CheckpointError(
            f"tokenizer model {kind!r} is not rebuilt from GGUF; only byte-level BPE ('gpt2') is"
        )
    try:
        tokens = [str(t) for t in metadata["tokenizer.ggml.tokens"]]
        merges = [str(m) for m in metadata["tokenizer.ggml.merges"]]
        kinds = list(metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens)))
    except KeyError as exc:
        raise CheckpointError(f"the GGUF file lacks {exc}") from exc
    except TypeError as exc:
        raise CheckpointError(f"the tokenizer's lists in the GGUF file are damaged: {exc}") from exc
    if len(kinds) != len(tokens):
        raise CheckpointError(f"{len(tokens)} tokens but {len(kinds)} token types")
    pairs = [(left, right) for left, _, right in (m.partition(" ") for m in merges)]
    vocabulary = {t: i for i, t in enumerate(tokens)}
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, fuse_unk=False))
    except Exception as exc:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"the GGUF file's merges do not fit its tokens: {exc}") from exc
    tokenizer.pre_tokenizer = _pre_tokenizer(str(metadata.get("tokenizer.ggml.pre", "default")))
    tokenizer.decoder = decoders.ByteLevel()
    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        added = [
            AddedToken(t, special=special, normalized=False)
            for t, k in zip(tokens, kinds, strict=True)
            if k == wanted
        ]
        tokenizer.add_special_tokens(added) if special else tokenizer.add_tokens(added)
    return tokenizer
