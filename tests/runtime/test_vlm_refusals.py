"""The model as users hold it: every way it says no, and stays free."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgevlm
from edgevlm.bundle import Bundle, BundleWriter, open_bundle
from edgevlm.errors import (
    BundleCorrupt,
    ContextOverflow,
    ContractError,
    ImageError,
)
from edgevlm.runtime.model.load import load, open_backend
from edgevlm.runtime.model.vlm import Vlm

Photograph = Callable[[str], Path]


# What does not fit.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give a question, or messages"),
        ({"question": "Hi", "messages": [{"role": "user", "content": "Hi"}]}, "and not both"),
        ({"image": "a.png", "messages": [{"role": "user", "content": "Hi"}]}, "pictures stand in"),
        ({"messages": []}, "no message"),
        ({"messages": ["Hi"]}, "a message must be"),
        ({"messages": "Hi"}, "a message must be"),
        ({"question": 5}, "content part must have the type"),
        ({"question": "the <|image|> marker"}, "contains the image marker"),
        ({"question": "Hi", "max_tokens": 0}, "max_tokens must be at least 1"),
        ({"question": "Hi", "temperature": -1}, "temperature must be"),
        ({"question": "Hi", "top_p": 0}, "top_p must be"),
        ({"question": "Hi", "seed": -1}, "seed must be"),
        ({"image": 5, "question": "Hi"}, "got int"),
        ({"image": ["a.png", b"x"], "question": "Hi"}, "a.png does not exist"),
        ({"image": np.zeros((4, 4)), "question": "Hi"}, "got float64 (4, 4)"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "needs 'image'"),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]},
            "must be a data: URI, got 'https'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line_and_the_model_stays_free(
    model: Vlm, given: dict[str, Any], message: str
):
    for call in (lambda: model.ask(**given), lambda: list(model.stream(**given))):
        with pytest.raises(ContractError) as caught:
            call()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert model.ask(None, "Hi", max_tokens=1).token_ids


def bomb() -> bytes:
    """A picture of 400 million pixels in a few kilobytes."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64,AAAA", "holds no picture"),
        ("data:image/png;base64,!!!", "holds no picture"),
        ("data:image/png,abc", "must be base64"),
        ("data:image/png;base64", "must be base64"),
        ("data:image/png;base64,", "holds no picture"),
        ("data:image/png;base64," + base64.b64encode(bomb()).decode(), "picture"),
    ],
    ids=["garbage", "not base64", "plain", "no comma", "empty", "bomb"],
)
def test_a_data_uri_without_a_picture_is_refused_and_not_echoed(model: Vlm, url: str, message: str):
    image = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(ImageError, match=message) as caught:
        model.ask(messages=[{"role": "user", "content": [image]}])
    assert len(str(caught.value)) < 300


def test_a_question_longer_than_the_context_is_one_line_with_the_remedy(model: Vlm):
    with pytest.raises(ContextOverflow, match=r"holds 2048: .*--max-context") as caught:
        model.ask(None, "word " * 3000)
    assert "\n" not in str(caught.value)
    with pytest.raises(ContextOverflow, match="--max-context"):
        list(model.stream(None, "word " * 3000))
    with pytest.raises(ContextOverflow):
        model.ask(np.zeros((8, 8, 3), np.uint8), "Hi", system="word " * 3000)
    assert "Paris" in model.ask(None, "What is the capital of France?", max_tokens=16).text


def test_a_model_without_an_encoder_takes_text_only(tiny: Bundle, photograph: Photograph):
    with Vlm(tiny, open_backend("ort-cpu", threads=1)) as model:
        assert model.ask(None, "Hi", max_tokens=4).token_ids
        for call in (
            lambda: model.ask(photograph("coffee.png"), "Hi"),
            lambda: model.encode(photograph("coffee.png")),
        ):
            with pytest.raises(ContractError, match="has no vision encoder: it takes text only"):
                call()


# One caller at a time, and an end.


def test_a_second_call_while_a_stream_is_open_is_refused(model: Vlm):
    running = model.stream(None, "Tell me a story.", max_tokens=12)
    pieces = [next(running)]
    refused: list[BaseException] = []

    def call() -> None:
        try:
            model.ask(None, "Hi", max_tokens=1)
        except BaseException as error:
            refused.append(error)

    other = threading.Thread(target=call)
    other.start()
    other.join(timeout=30)
    assert [type(error) for error in refused] == [ContractError]
    assert "is answering another call" in str(refused[0])
    with pytest.raises(ContractError, match="is answering another call"):
        model.encode(np.zeros((8, 8, 3), np.uint8))
    pieces += running  # and the first caller is not disturbed
    assert "".join(pieces) == model.ask(None, "Tell me a story.", max_tokens=12).text


def test_a_stream_that_is_given_up_frees_the_model(model: Vlm):
    running = model.stream(None, "Tell me a story.")
    next(running)
    running.close()
    assert model.ask(None, "Hi", max_tokens=1).token_ids


def test_a_stream_that_was_never_started_blocks_nobody(model: Vlm):
    waiting = model.stream(None, "Tell me a story.", max_tokens=2)
    assert model.ask(None, "Hi", max_tokens=1).token_ids
    assert list(waiting)


def test_a_closed_model_says_so_and_may_be_closed_again(nano: Bundle):
    model = load(nano.root, threads=1, spin=False)
    started = model.stream(None, "Tell me a story.")
    next(started)
    waiting = model.stream(None, "Tell me a story.")
    model.close()
    model.close()
    for call in (
        lambda: model.ask(None, "Hi"),
        lambda: next(model.stream(None, "Hi")),
        lambda: model.encode(np.zeros((8, 8, 3), np.uint8)),
        lambda: next(waiting),
        lambda: list(started),
    ):
        with pytest.raises(ContractError, match="closed"):
            call()


def test_leaving_the_with_block_closes_the_model(tiny: Bundle):
    with edgevlm.load(tiny.root) as model:
        assert isinstance(model, edgevlm.Vlm)
    with pytest.raises(ContractError, match="closed"):
        model.ask(None, "Hi")


# A bundle whose hashes are right and whose content is not.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer"),
        ("tokenizer.json", "not json", "tokenizer.json is not a tokenizer"),
        ("chat_template.jinja", "{% for %}", "does not compile"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer.json"),
        ("chat_template.jinja", b"\xff\xfe", "chat_template.jinja"),
    ],
)
def test_a_consistent_bundle_with_unusable_content_is_corrupt(
    tiny: Bundle, tmp_path: Path, name: str, content: str | bytes, message: str
):
    with BundleWriter(tmp_path / "odd") as writer:
        for file in tiny.manifest.files:
            (writer.root / file).parent.mkdir(exist_ok=True)
            (writer.root / file).write_bytes((tiny.root / file).read_bytes())
        raw = content if isinstance(content, bytes) else content.encode()
        (writer.root / name).write_bytes(raw)
        writer.commit(lambda files: tiny.manifest.model_copy(update={"files": files}))
    with pytest.raises(BundleCorrupt, match=message) as caught:
        Vlm(open_bundle(tmp_path / "odd"), open_backend("ort-cpu", threads=1))
    assert "\n" not in str(caught.value)
