"""The model as users hold it: every way to ask."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.errors import (
    BackendError,
)
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm

WHAT = "What is in the picture?"
Photograph = Callable[[str], Path]


def exactly(answer: Answer) -> tuple[object, ...]:
    """All of an answer that must not depend on when it was asked for."""
    return answer.text, answer.token_ids, answer.finish_reason, answer.confidence, answer.tokens


def streamed(model: Vlm, *given: Any, **options: Any) -> tuple[list[str], Answer]:
    """The pieces of a stream, and the answer that it returns."""
    pieces, running = [], model.stream(*given, **options)
    while True:
        try:
            pieces.append(next(running))
        except StopIteration as end:
            return pieces, end.value


@pytest.fixture
def scripted(nano: Bundle) -> Iterator[Callable[..., Vlm]]:
    """Nano with a decoder that says what it is told to, token by token."""
    made: list[Vlm] = []

    def model(tokens: list[int], before_step: Callable[[], None] = lambda: None) -> Vlm:
        made.append(Vlm(nano, ScriptedBackend(nano.manifest, tokens, before_step)))
        return made[-1]

    yield model
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def words(nano: Bundle) -> Tokenizer:
    """Nano's tokenizer."""
    return Tokenizer.from_str(nano.read_text("tokenizer.json"))


# What it sees.


def test_it_names_what_is_in_a_photograph(model: Vlm, photograph: Photograph):
    assert "espresso" in model.ask(photograph("coffee.png"), WHAT).text
    assert "cat" in model.ask(photograph("chelsea.png"), WHAT).text


def test_the_encoder_gives_tokens_labels_and_features(model: Vlm, photograph: Photograph):
    encoded = model.encode(photograph("coffee.png"))
    assert encoded.tokens.shape == (16, 576)
    assert encoded.outputs["features"].shape == (1, 1280, 7, 7)
    assert encoded.labels[0][0] == "espresso"
    probabilities = [p for _, p in encoded.labels]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1.0001


# The same question, however it is asked.


def test_a_path_a_pil_image_and_an_array_give_the_same_answer(model: Vlm, photograph: Photograph):
    path = photograph("coffee.png")
    with Image.open(path) as opened:
        array = np.asarray(opened.convert("RGB"))
        forms = [path, str(path), opened, array, [path], (array,)]
        answers = [exactly(model.ask(form, WHAT, max_tokens=8)) for form in forms]
    assert answers == answers[:1] * len(forms)


def test_a_stream_is_the_answer_in_pieces(model: Vlm, photograph: Photograph):
    asked = model.ask(photograph("coffee.png"), WHAT)
    pieces, answer = streamed(model, photograph("coffee.png"), WHAT)
    assert exactly(answer) == exactly(asked)
    assert "".join(pieces) == asked.text
    assert len(pieces) > 3
    assert all(pieces)


def test_asking_again_gives_the_same_answer_whatever_came_between(
    model: Vlm, nano: Bundle, photograph: Photograph
):
    def coffee(of: Vlm) -> tuple[object, ...]:
        return exactly(of.ask(photograph("coffee.png"), WHAT, max_tokens=12))

    first = coffee(model)
    for between in (
        lambda: None,
        lambda: model.ask(photograph("chelsea.png"), "And this?", max_tokens=3),
        lambda: model.ask(None, "What is two plus two?", max_tokens=3),
        lambda: model.ask(photograph("rocket.jpg"), WHAT, system="Answer in French.", max_tokens=3),
        lambda: next(model.stream(photograph("rocket.jpg"), WHAT)),
        lambda: model.ask([photograph("rocket.jpg")] * 2, WHAT, max_tokens=3),
    ):
        between()
        assert coffee(model) == first
    with load(nano.root, threads=2, spin=False) as fresh:
        assert coffee(fresh) == first


def test_messages_say_the_same_as_image_and_question(model: Vlm, photograph: Photograph):
    path = photograph("chelsea.png")
    expected = exactly(model.ask(path, WHAT, max_tokens=8))
    raw = base64.b64encode(path.read_bytes()).decode()
    text = {"type": "text", "text": WHAT}
    for image in (
        {"type": "image", "image": path},
        {"type": "image", "path": str(path)},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{raw}"}},
    ):
        messages = [{"role": "user", "content": [image, text]}]
        assert exactly(model.ask(messages=messages, max_tokens=8)) == expected
        assert exactly(streamed(model, messages=messages, max_tokens=8)[1]) == expected
    assert messages == [{"role": "user", "content": [image, text]}]  # ours to keep


def test_a_system_turn_may_be_given_either_way(model: Vlm):
    turn = {"role": "user", "content": "Hello"}
    system = {"role": "system", "content": "You are a pirate."}
    as_option = model.ask(None, "Hello", system="You are a pirate.", max_tokens=6)
    assert exactly(model.ask(messages=[system, turn], max_tokens=6)) == exactly(as_option)
    assert exactly(model.ask(messages=[turn], system="You are a pirate.", max_tokens=6)) == exactly(
        as_option
    )
    assert as_option.tokens.prompt != model.ask(None, "Hello", max_tokens=1).tokens.prompt


def test_an_earlier_turn_is_part_of_the_prompt(model: Vlm):
    first = {"role": "user", "content": "My boat is called Selma."}
    reply = {"role": "assistant", "content": "A fine name."}
    last = {"role": "user", "content": "What is my boat called?"}
    answer = model.ask(messages=[first, reply, last], max_tokens=4)
    assert answer.tokens.prompt > model.ask(messages=[last], max_tokens=1).tokens.prompt + 10
    other = {"role": "user", "content": "My boat is called Thelma."}
    assert model.ask(messages=[other, reply, last], max_tokens=4).confidence != answer.confidence


def test_a_question_about_no_picture_has_no_visual_tokens(model: Vlm):
    answer = model.ask(None, "What is the capital of France?", max_tokens=16)
    assert "Paris" in answer.text
    assert answer.tokens.visual == 0
    assert answer.timings_ms.encode == 0
    assert exactly(model.ask([], "What is the capital of France?", max_tokens=16)) == exactly(
        answer
    )


def test_two_pictures_are_both_seen_and_in_their_order(model: Vlm, photograph: Photograph):
    coffee, cat = photograph("coffee.png"), photograph("chelsea.png")
    both = model.ask([coffee, cat], WHAT, max_tokens=4)
    assert both.tokens.visual == 32
    one = model.ask(coffee, WHAT, max_tokens=4)
    assert both.tokens.prompt > one.tokens.prompt + 16
    swapped = model.ask([cat, coffee], WHAT, max_tokens=4)
    twice = model.ask([coffee, coffee], WHAT, max_tokens=4)
    assert len({both.confidence, swapped.confidence, twice.confidence}) == 3


def test_the_counts_and_times_of_an_answer_hold_together(model: Vlm, photograph: Photograph):
    answer = model.ask(photograph("coffee.png"), WHAT, max_tokens=8)
    assert answer.tokens.output == len(answer.token_ids) <= 8
    assert answer.tokens.visual == 16 < answer.tokens.prompt
    timing = answer.timings_ms
    parts = timing.preprocess + timing.encode + timing.prefill + timing.decode
    assert 0 < parts <= timing.total
    assert min(timing.preprocess, timing.encode, timing.prefill, timing.decode) > 0
    assert answer.backend == "ort-cpu"
    assert answer.answer is None
    assert answer.confidence is not None
    assert 0 < answer.confidence <= 1


# Sampling.


def test_a_seed_makes_a_sampled_answer_repeatable(model: Vlm):
    def ids(seed: int) -> tuple[int, ...]:
        options = {"temperature": 1.2, "top_p": 0.95, "seed": seed, "max_tokens": 12}
        return model.ask(None, "Tell me a story.", **options).token_ids

    assert ids(1) == ids(1)
    assert len({ids(seed) for seed in range(4)}) > 1


def test_a_sampled_stream_is_the_sampled_answer(model: Vlm):
    options: Any = {"temperature": 1.0, "seed": 9, "max_tokens": 12}
    pieces, answer = streamed(model, None, "Tell me a story.", **options)
    asked = model.ask(None, "Tell me a story.", **options)
    assert exactly(answer) == exactly(asked)
    assert "".join(pieces) == asked.text


# Why an answer ends.


def test_an_answer_ends_with_the_models_own_end_token(model: Vlm, photograph: Photograph):
    answer = model.ask(photograph("coffee.png"), WHAT, max_tokens=64)
    assert answer.finish_reason == "stop"
    assert answer.token_ids[-1] in model.bundle.manifest.prompt.stop_token_ids
    assert "<|" not in answer.text


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_an_answer_ends_when_its_tokens_are_used_up(model: Vlm, budget: int):
    answer = model.ask(None, "Tell me a long story.", max_tokens=budget)
    assert answer.finish_reason == "length"
    assert len(answer.token_ids) == budget


def test_a_deadline_that_is_over_still_gives_the_first_token(model: Vlm):
    answer = model.ask(None, "Tell me a story.", deadline_ns=time.monotonic_ns() - 1)
    assert answer.finish_reason == "deadline"
    assert len(answer.token_ids) == 1
    later = model.ask(None, "Tell me a story.", max_tokens=3,
                      deadline_ns=time.monotonic_ns() + 10**12)  # fmt: skip
    assert later.finish_reason == "length"


def test_a_cancelled_answer_keeps_what_was_said_so_far(
    scripted: Callable[..., Vlm], words: Tokenizer
):
    ids = words.encode("One two three four five").ids
    asked: list[int] = []

    def after_three() -> bool:
        asked.append(1)
        return len(asked) == 3

    answer = scripted(ids).ask(None, "Count.", cancelled=after_three)
    assert answer.finish_reason == "cancelled"
    assert answer.token_ids == tuple(ids[:3])
    assert answer.text == words.decode(ids[:3])


def test_the_end_token_wins_over_every_other_reason(scripted: Callable[..., Vlm]):
    answer = scripted([2]).ask(None, "Hi", max_tokens=1, deadline_ns=0, cancelled=lambda: True)
    assert (answer.finish_reason, answer.token_ids, answer.text) == ("stop", (2,), "")


def test_an_answer_ends_where_the_cache_is_full(tiny: Bundle):
    with Vlm(tiny, ScriptedBackend(tiny.manifest, [65])) as model:
        answer = model.ask(None, "x" * 600, max_tokens=1000)
    assert answer.finish_reason == "length"
    # The last token needs no place: nothing is computed from it any more.
    assert len(answer.token_ids) == tiny.manifest.kv.capacity - answer.tokens.prompt + 1


# Told what to say.


@pytest.mark.parametrize("text", ["A red boat.", " two\n\nlines ", "caf\u00e9 \U0001f600"])
def test_a_scripted_backend_says_its_text(
    scripted: Callable[..., Vlm], words: Tokenizer, photograph: Photograph, text: str
):
    ids = [*words.encode(text).ids, 2]
    model = scripted(ids)
    answer = model.ask(photograph("coffee.png"), WHAT)
    assert (answer.text, answer.token_ids, answer.finish_reason) == (text, tuple(ids), "stop")
    assert answer.backend == "scripted"
    pieces, _ = streamed(model, photograph("coffee.png"), WHAT)
    assert "".join(pieces) == text


def test_after_a_failing_step_the_model_answers_again(
    scripted: Callable[..., Vlm], words: Tokenizer
):
    steps: list[int] = []

    def fail_once() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise BackendError("the device fell off the bus")

    ids = [*words.encode("One two three").ids, 2]
    model = scripted(ids, fail_once)
    with pytest.raises(BackendError, match="fell off the bus"):
        model.ask(None, "Count.")
    assert model.ask(None, "Count.").token_ids == tuple(ids)
