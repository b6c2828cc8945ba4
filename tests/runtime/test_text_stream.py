"""Text while it is being generated: whole characters, and together the whole text."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgevlm.bundle import Bundle
from edgevlm.runtime.model.detokenize import TextStream
from tests.core.tiny import END, tokenizer

HALF = "\ufffd"
WHOLE = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters=HALF), min_size=1, max_size=60
)


@pytest.fixture(scope="module")
def words(nano: Bundle) -> Tokenizer:
    """Nano's tokenizer: 49152 tokens, many of them parts of characters."""
    return Tokenizer.from_str(nano.read_text("tokenizer.json"))


def pieces(words: Tokenizer, ids: list[int]) -> tuple[list[str], str]:
    """What is pushed out per token, and what the flush gives."""
    stream = TextStream(words)
    return [stream.push(i) for i in ids], stream.flush()


@settings(max_examples=300, deadline=None)
@given(text=WHOLE)
def test_pieces_are_whole_characters_and_add_up(words: Tokenizer, text: str):
    ids = words.encode(text, add_special_tokens=False).ids
    assume(words.decode(ids) == text)  # its vocabulary lacks some bytes of unassigned planes
    pushed, rest = pieces(words, ids)
    assert "".join(pushed) + rest == text
    assert not any(HALF in piece for piece in pushed)
    assert rest == ""


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 and \U0001f3f3\ufe0f\u200d\U0001f308",
        "na\u00efve \u6f22\u5b57\u304b\u306a \u0e20\u0e32\u0e29\u0e32 e\u0301",
        "  two spaces\n\n\ttab ",
        "\u2764" * 20,
        "a",
    ],
)
def test_every_text_comes_out_as_it_went_in(words: Tokenizer, text: str):
    pushed, rest = pieces(words, words.encode(text, add_special_tokens=False).ids)
    assert "".join(pushed) + rest == text


def test_plain_words_are_never_held_back(words: Tokenizer):
    ids = words.encode("The boat lies at the pier.", add_special_tokens=False).ids
    pushed, rest = pieces(words, ids)
    assert all(pushed)
    assert rest == ""


def test_an_emoji_of_four_bytes_comes_with_its_last_byte():
    ids = tokenizer().encode("\U0001f600").ids  # one token a byte
    assert len(ids) == 4
    assert pieces(tokenizer(), ids) == (["", "", "", "\U0001f600"], "")


def test_a_character_that_is_never_finished_comes_with_the_flush():
    ids = tokenizer().encode("a\U0001f600").ids[:-1]
    pushed, rest = pieces(tokenizer(), ids)
    assert pushed == ["a", "", "", ""]
    assert set(rest) == {HALF}
    assert rest == tokenizer().decode(ids)[1:]


def test_special_tokens_have_no_text():
    ids = [*tokenizer().encode("ab").ids, END, END]
    assert pieces(tokenizer(), ids) == (["a", "b", "", ""], "")


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=40))
def test_any_sequence_of_tokens_adds_up_even_if_it_is_no_text(words: Tokenizer, ids: list[int]):
    pushed, rest = pieces(words, ids)
    assert "".join(pushed) + rest == words.decode(ids)


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, END), max_size=40))
def test_any_sequence_of_bytes_adds_up_even_if_it_is_no_utf8(ids: list[int]):
    pushed, rest = pieces(tokenizer(), ids)
    assert "".join(pushed) + rest == tokenizer().decode(ids)
    assert not any(piece.endswith(HALF) for piece in pushed)


def test_after_a_flush_the_stream_goes_on(words: Tokenizer):
    stream = TextStream(words)
    ids = words.encode("One two three four", add_special_tokens=False).ids
    text = "".join(stream.push(i) for i in ids[:2]) + stream.flush()
    text += "".join(stream.push(i) for i in ids[2:]) + stream.flush()
    assert text == "One two three four"
    assert stream.flush() == ""
