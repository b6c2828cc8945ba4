"""Tokenizers given as vocabulary files or sentencepiece, against transformers' own classes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer
from tokenizers import models as token_models

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from tests.export.tiny import TEXT, bundle_logits, config, export_to, refused, save, tokenizer
from tests.export.tiny import torch_logits as logits_of

AWKWARD = [
    "Alice was beginning to get very tired of sitting by her sister on the bank.",
    "  two  leading spaces", " trailing  ", "tab\there\nnewline\r\n\n\nthree", "   ", "",
    "naïve café ﬁ ½ Ⅳ \uff11\uff12", "中文 mixed 日本語", "emoji 👩‍👩‍👧 ok", "don't  I'LL",
    "1234567 3.14", "a\u00a0b\u200bc\u3000d", "e\u0301 combining", "▁under ▁ score",
    "\x00\x01 ctl", "x" * 60, "(brackets) [and] {more}!?", "https://example.org/a_b?c=d",
]  # fmt: skip
MARKED = ["<s> special </s> x", "x<s>y", "<|im_start|>user\n<|im_end|>", "<image><image> two"]


def sentencepiece(folder: Path, name: str, tokenizer_class: str, size: int, **how: Any) -> None:
    """Train a model on a chapter of a novel, and say whose it is."""
    import sentencepiece as library

    folder.mkdir()
    library.SentencePieceTrainer.train(
        input=str(TEXT), model_prefix=str(folder / name), vocab_size=size, minloglevel=2,
        hard_vocab_limit=False, **how,
    )  # fmt: skip
    (folder / f"{name}.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class}))


def llama(folder: Path) -> None:
    """Byte-pair pieces with bytes behind them, a space before the first word."""
    sentencepiece(folder, "tokenizer", "LlamaTokenizer", 500, model_type="bpe", byte_fallback=True,
                  normalization_rule_name="identity", remove_extra_whitespaces=False,
                  split_digits=True, allow_whitespace_only_pieces=True)  # fmt: skip


def gemma(folder: Path) -> None:
    """The same without the space, and with pieces of its own."""
    sentencepiece(folder, "tokenizer", "GemmaTokenizer", 500, model_type="bpe", byte_fallback=True,
                  normalization_rule_name="identity", remove_extra_whitespaces=False,
                  add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                  user_defined_symbols=["<start_of_turn>", "\n\n"])  # fmt: skip


def t5(folder: Path) -> None:
    """Unigram pieces, compatibility characters folded, spaces merged."""
    sentencepiece(folder, "spiece", "T5Tokenizer", 400, model_type="unigram",
                  pad_id=0, eos_id=1, unk_id=2, bos_id=-1)  # fmt: skip


def siglip(folder: Path) -> None:
    """Unigram pieces of lower-case words."""
    sentencepiece(folder, "spiece", "SiglipTokenizer", 400, model_type="unigram",
                  pad_id=-1, eos_id=1, unk_id=2, bos_id=-1, control_symbols=["<pad>"])  # fmt: skip


def vocabulary(folder: Path, model: Any, **settings: Any) -> None:
    """``vocab.json`` and ``merges.txt`` of a tokenizer's model."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def byte_pairs() -> Any:
    """The tiny tokenizer's vocabulary."""
    return json.loads(tokenizer().to_str())["model"]


def special(text: str) -> dict[str, Any]:
    """As ``added_tokens_decoder`` lists a token."""
    flags = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"content": text, "special": True, **flags}


def qwen2(folder: Path) -> None:
    """As Qwen2 and Qwen2-VL are published, with tokens behind the vocabulary."""
    vocabulary(folder, byte_pairs(), tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>",
               added_tokens_decoder={"0": special("<|im_start|>"), "1": special("<|im_end|>"),
                                     "300": special("<image>")})  # fmt: skip


def gpt2(folder: Path) -> None:
    """As older folders are: added tokens and special tokens in files of their own."""
    vocabulary(folder, byte_pairs(), tokenizer_class="GPT2Tokenizer")
    (folder / "added_tokens.json").write_text(json.dumps({"<image>": 300}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    )


def clip(folder: Path) -> None:
    """Lower-case words whose last piece says so."""
    letters = sorted(set(map(chr, range(33, 127))) | {"Ġ", "Ã", "©", "¯", "½"})
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    merges = [("t", "h"), ("th", "e</w>"), ("i", "n"), ("in", "g</w>"), ("a", "s</w>")]
    tokens += [*("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    model = {"vocab": {t: n for n, t in enumerate(tokens)}, "merges": merges}
    vocabulary(folder, model, tokenizer_class="CLIPTokenizer")


KINDS: dict[str, Callable[[Path], None]] = {
    "llama": llama, "gemma": gemma, "t5": t5, "siglip": siglip,
    "qwen2": qwen2, "gpt2": gpt2, "clip": clip,
}  # fmt: skip
ENCODERS = ("siglip", "clip")  # of texts: they write none


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizers") / request.param
    KINDS[request.param](made)
    return Path(made)


def test_ids_and_texts_are_those_of_transformers(folder: Path) -> None:
    made = Checkpoint(folder).tokenizer
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    # the tokenizers library puts a space behind a special token; SigLIP's own class does not
    texts = AWKWARD if folder.name == "siglip" else [*AWKWARD, *MARKED]
    lines = [line for line in TEXT.read_text("utf-8").splitlines() if line.strip()][:40]
    for text in [*texts, *lines]:
        bare = made.encode(text, add_special_tokens=False).ids
        assert bare == theirs.encode(text, add_special_tokens=False), text
        assert made.encode(text).ids == theirs.encode(text), text
        if folder.name not in ENCODERS:
            assert made.decode(bare) == theirs.decode(bare, skip_special_tokens=True), text


def test_the_same_files_give_the_same_bytes(folder: Path) -> None:
    assert Checkpoint(folder).tokenizer.to_str() == Checkpoint(folder).tokenizer.to_str()


def test_pieces_of_byte_pairs_agree_with_sentencepiece_itself(tmp_path: Path) -> None:
    import sentencepiece as library

    llama(tmp_path / "llama")
    model = library.SentencePieceProcessor(model_file=str(tmp_path / "llama" / "tokenizer.model"))
    made = Checkpoint(tmp_path / "llama").tokenizer
    for text in AWKWARD:
        if not text.startswith((" ", "▁")):  # transformers adds no second space there
            assert made.encode(text, add_special_tokens=False).ids == model.encode(text), text


def test_a_checkpoint_of_vocabulary_files_becomes_a_bundle(tmp_path: Path) -> None:
    made = save(tmp_path / "model", config("qwen2", num_hidden_layers=1, vocab_size=304))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (made.folder / name).unlink()
    qwen2(made.folder)
    bundle = export_to(made.folder, tmp_path / "bundle")
    inside = Tokenizer.from_str(bundle.read_text("tokenizer.json"))
    ids = inside.encode("Alice<image> was tired").ids
    assert 300 in ids
    assert abs(bundle_logits(bundle, ids) - logits_of(made.model, ids)).max() < 1e-3


# What cannot be read.


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint without any tokenizer."""
    made = save(tmp_path_factory.mktemp("bare") / "model", config("llama", num_hidden_layers=1))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (made.folder / name).unlink()
    return made.folder


def other_class(folder: Path) -> None:
    """Vocabulary files that the named class does not read."""
    vocabulary(folder, byte_pairs(), tokenizer_class="LlamaTokenizer")


def half(folder: Path) -> None:
    """A sentencepiece model cut short."""
    llama(folder.parent / "whole")
    raw = (folder.parent / "whole" / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(raw[: len(raw) // 2])


def merges_of_another(folder: Path) -> None:
    """Merges whose pieces are not in the vocabulary."""
    vocabulary(folder, {**byte_pairs(), "merges": [("zz", "qq")]}, tokenizer_class="GPT2Tokenizer")


def slow_only(folder: Path) -> None:
    """A class without a form for the tokenizers library."""
    vocabulary(folder, byte_pairs(), tokenizer_class="CTRLTokenizer")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "has no tokenizer.json; save it with"),
    "half a vocabulary": (lambda f: (f / "vocab.json").write_text("{}"), "or copy vocab.json and"),
    "a sentencepiece model that is none": (
        lambda f: (f / "tokenizer.model").write_bytes(b"no"), "is not a sentencepiece model"),
    "half a sentencepiece model": (half, "is not a sentencepiece model"),
    "no class named": (lambda f: (gpt2(f), (f / "tokenizer_config.json").unlink()),
                       "is tokenizer_class in tokenizer_config.json"),
    "a class that does not read it": (other_class, "lacks 300 tokens of the checkpoint's own"),
    "merges of another model": (merges_of_another, "transformers makes none"),
    "a class without a fast form": (slow_only, "tokenizer.json"),
    "an id that is none": (
        lambda f: (gpt2(f), (f / "vocab.json").write_text('{"a": "b"}')), "tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BAD))
def test_what_makes_no_tokenizer_is_refused(bare: Path, tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(bare, tmp_path / "model"))
    spoil, says = BAD[kind]
    spoil(folder)
    target = tmp_path / "target"
    target.mkdir()
    error = refused(folder, target)
    assert isinstance(error, CheckpointError)
    assert says in str(error)


@pytest.mark.parametrize("package", ["transformers", "sentencepiece"])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    t5(tmp_path / "t5")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CheckpointError, match=rf"needs {package}: pip install 'edgevlm\[export\]'"):
        _ = Checkpoint(tmp_path / "t5").tokenizer


def test_a_tokenizer_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    gpt2(tmp_path / "gpt2")
    Tokenizer(token_models.WordLevel({"a": 0}, unk_token="a")).save(
        str(tmp_path / "gpt2" / "tokenizer.json")
    )
    assert Checkpoint(tmp_path / "gpt2").tokenizer.get_vocab_size() == 1
