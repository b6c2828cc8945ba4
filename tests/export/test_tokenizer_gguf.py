"""The tokenizer rebuilt from a GGUF file, against the one transformers builds."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from edgevlm.bundle.prompt import PromptSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano.packages import DECODER
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.runtime.model.prompt import PromptBuilder
from tests.export.conftest import Reference
from tests.export.tiny import TEXT

STRINGS = [
    "",
    " ",
    "a",
    "Hello, world!",
    "1234567890",
    "in 2024: 3.14159 and 1,000,000",
    "x=1;y=22;z=333",
    "naïve café, Ünïcödé, ŁÓDŹ",
    "e\u0301 combining, a\u0308o\u0302",
    "日本語テキスト、한국어, العربية, עברית, ไทย",
    "🤖🚀 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "   leading",
    "trailing   ",
    "a  b   c    d\t\te\t f",
    "\n\n\n",
    "\r\n x \r\n\r\n y",
    "def f(x):\n    return x**2  # comment\n\n\nclass A:\n\tpass\n",
    "it's we'll I'M don't 'tis they'd've",
    "\u00a0nbsp\u2003em\u200bzero\ufeffbom",
    "\x00\x01\x1f\x7f",
    "\ud7ff\ue000\U0010ffff",
    "http://a.b/c?d=e&f=%20#x <b>&amp;</b>",
    "----====####....!!!???",
    "\uff21\uff22\uff23 Ǆ ﬁ ß İ",
    "<|im_start|>user\nhi<|im_end|>\n",
    "<|im_start|><|im_end|><|endoftext|>",
    "x<|im_end|>y <|im_end|> z",
    "<|im_start",
    "<filename>a.py<gh_stars>5<jupyter_start>",
    "a" * 500,
    "ab " * 300,
]
DIGITS = ["٣٤٥", "²³½", "Ⅷ, ⅔ and १२३", "a٣b4²c"]


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return GgufFile(DECODER.locate()).metadata


@pytest.fixture(scope="module")
def rebuilt(metadata: dict[str, Any]) -> Tokenizer:
    return build_tokenizer(metadata)


@pytest.mark.parametrize("text", STRINGS)
def test_tokens_are_those_of_transformers(
    rebuilt: Tokenizer, smollm2: Reference, text: str
) -> None:
    found = rebuilt.encode(text).ids
    assert found == smollm2.tokenizer(text).input_ids
    assert rebuilt.decode(found, skip_special_tokens=True) == smollm2.tokenizer.decode(
        found, skip_special_tokens=True
    )


@pytest.mark.parametrize("text", [*STRINGS, *DIGITS])
def test_text_comes_back_exactly(rebuilt: Tokenizer, text: str) -> None:
    assert rebuilt.decode(rebuilt.encode(text).ids, skip_special_tokens=False) == text


def test_a_whole_chapter_becomes_the_same_tokens(rebuilt: Tokenizer, smollm2: Reference) -> None:
    text = TEXT.read_text("utf-8")
    found = rebuilt.encode(text).ids
    assert len(found) > 2000
    assert found == smollm2.tokenizer(text).input_ids
    assert rebuilt.decode(found) == text


@pytest.mark.parametrize("text", [*STRINGS, *DIGITS])
def test_every_digit_stands_alone_as_smollm_cuts_them(
    rebuilt: Tokenizer, smollm2: Reference, text: str
) -> None:
    r"""llama.cpp cuts `smollm` at \p{N} first; transformers' conversion from GGUF forgets that."""
    cut = Tokenizer.from_str(smollm2.tokenizer.backend_tokenizer.to_str())
    cut.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    assert rebuilt.encode(text).ids == cut.encode(text).ids


def test_special_tokens_are_exactly_the_control_tokens(
    rebuilt: Tokenizer, metadata: dict[str, Any], smollm2: Reference
) -> None:
    control = {
        i: t
        for i, (t, kind) in enumerate(
            zip(
                metadata["tokenizer.ggml.tokens"],
                metadata["tokenizer.ggml.token_type"],
                strict=True,
            )
        )
        if kind == 3
    }
    added = rebuilt.get_added_tokens_decoder()
    assert {i: t.content for i, t in added.items()} == control
    assert all(t.special for t in added.values())
    assert rebuilt.get_vocab_size() == len(smollm2.tokenizer) == 49152


CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}],
    [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three\n\n<|im_end|> {{ 7 * 7 }} {% raw %}"},
    ],
    [{"role": "user", "content": "  spaces \n"}],
]


@pytest.mark.parametrize("chat", CHATS, ids=["user", "system", "turns", "spaces"])
def test_a_rendered_chat_is_that_of_transformers(
    rebuilt: Tokenizer, metadata: dict[str, Any], smollm2: Reference, chat: list[dict[str, str]]
) -> None:
    spec = PromptSpec(bos_token_id=1, stop_token_ids=(2,))
    builder = PromptBuilder(spec, str(metadata["tokenizer.chat_template"]), rebuilt)
    wanted = smollm2.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    prompt = builder.build(chat)
    assert prompt.segments == ()
    assert rebuilt.decode(list(prompt.texts[0]), skip_special_tokens=False) == wanted
    assert list(prompt.texts[0]) == smollm2.tokenizer(wanted).input_ids


def metadata_of(pre: str) -> dict[str, Any]:
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokens = ["<|end|>", "<tool>", *sorted(letters)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 4, *[1] * len(letters)],
        "tokenizer.ggml.merges": [],
    }


PIECES = {
    # what llama.cpp's expressions for these names cut
    "gpt-2": ["Don", "'t", " pay", " 12345", "€", " in", " 7", " days", "!"],
    "smollm": ["Don", "'t", " pay", " ", *"12345", "€", " in", " ", "7", " days", "!"],
    "qwen2": ["Don", "'t", " pay", " ", *"12345", "€", " in", " ", "7", " days", "!"],
    "llama-bpe": ["Don", "'t", " pay", " ", "123", "45", "€", " in", " ", "7", " days", "!"],
}


@pytest.mark.parametrize("pre", PIECES)
def test_text_is_cut_as_the_name_of_the_pre_tokenizer_says(pre: str) -> None:
    text = "Don't pay 12345€ in 7 days!"
    made = build_tokenizer(metadata_of(pre))
    spans = [span for _, span in made.pre_tokenizer.pre_tokenize_str(text)]
    assert [text[a:b] for a, b in spans] == PIECES[pre]
    assert made.decode(made.encode(text).ids) == text


def test_user_defined_tokens_are_kept_whole_and_shown() -> None:
    made = build_tokenizer(metadata_of("gpt-2"))
    ids = made.encode("a<tool>b<|end|>").ids
    assert ids[1] == 1
    assert ids[-1] == 0
    assert made.decode(ids, skip_special_tokens=True) == "a<tool>b"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tokenizer.ggml.model", "llama", "tokenizer model 'llama' is not rebuilt"),
        ("tokenizer.ggml.pre", "tekken", "pre-tokenizer 'tekken' is not known"),
        ("tokenizer.ggml.token_type", [1], "258 tokens but 1 token types"),
        ("tokenizer.ggml.tokens", 3, "damaged"),
        ("tokenizer.ggml.merges", ["a zz"], "merges do not fit"),
    ],
)
def test_metadata_that_make_no_tokenizer_are_named(key: str, value: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build_tokenizer(metadata_of("gpt-2") | {key: value})
