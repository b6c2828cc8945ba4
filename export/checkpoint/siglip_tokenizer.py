"""SigLIP's tokenizer in a form that the ``tokenizers`` library runs.

Source: SigLIP (Zhai et al., 2023); big_vision, ``canonicalize_text``: lower case, no punctuation,
single spaces, then sentencepiece's unigram model.
"""

from __future__ import annotations

from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

PUNCTUATION = r"[!-/:-@\[-`{-~]"  # of ASCII


def siglip_tokenizer(slow: Any) -> Tokenizer:
    """Build it from transformers' ``SiglipTokenizer``.

    Args:
        slow: with its sentencepiece model loaded.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(slow.sp_model.serialized_model_proto())
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    made = Tokenizer(models.Unigram(pieces, unk_id=proto.trainer_spec.unk_id, byte_fallback=False))
    steps = [
        normalizers.Replace("▁", " "),
        *([normalizers.Lowercase()] if slow.do_lower_case else []),
        normalizers.Replace(Regex(PUNCTUATION), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    if proto.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
        steps.append(normalizers.Strip())
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    made.add_special_tokens(
        [
            AddedToken(str(token), normalized=False, special=True, lstrip=True, rstrip=True)
            for _, token in sorted(slow.added_tokens_decoder.items())
        ]
    )
    end = str(slow.eos_token)
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}",
        pair=f"$A {end} $B {end}",
        special_tokens=[(end, made.token_to_id(end))],
    )
    return made
