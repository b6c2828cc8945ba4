"""A stream in the cache: what is remembered, and that it is what the model would remember."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import edgevlm
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from tests.export.vlm import tiny

# One layer: keys and values do not depend on what was before them, so that a cache from which
# pictures were evicted must be the cache of those that stay, to the last rotation.
FAMILIES: dict[str, Callable[[Path], object]] = {
    "smolvlm": tiny.smolvlm,
    "qwen2_vl": tiny.qwen2_vl,
    "llava_onevision": tiny.llava_onevision,
}
Loaded = edgevlm.Vlm


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loaded]:
    """A model of one layer."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.TEXT, "num_hidden_layers", 1)
        FAMILIES[request.param](root / "checkpoint")
    export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    with edgevlm.load(root / "bundle", threads=2, spin=False) as loaded:
        yield loaded


def picture(seed: int, height: int = 44, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def room_for(model: Loaded, pictures: int) -> int:
    """Positions that so many of ``picture`` take, with their captions."""
    with_one = model.session()
    span = with_one.see(picture(0), "\n0 s: ")
    return pictures * len(span.ids)


def test_answers_are_those_of_a_session_that_saw_only_what_is_left(model: Loaded):
    vision = room_for(model, 3)
    long = model.session(vision_tokens=vision, text_tokens=40)
    longest = 0
    for n in range(9):
        long.see(picture(n), f"\n{n} s: ", float(n))
        if n % 2:
            long.note(f"\nIt was {n}.", float(n))
        longest = max(longest, long.positions)
    found = long.ask("\nWhat is it?", max_tokens=12)
    remembered = [span.at_s for span in long.remembered if span.region == "vision"]
    assert remembered == [6, 7, 8]
    texts = [span.at_s for span in long.remembered if span.region == "text"]
    assert texts
    assert longest <= vision + 40 + 20
    short = model.session(vision_tokens=vision, text_tokens=40)
    for span in long.remembered:
        n = int(span.at_s)
        if span.region == "vision":
            short.see(picture(n), f"\n{n} s: ", float(n))
        else:
            short.note(f"\nIt was {n}.", float(n))
    assert short.positions == long.positions
    wanted = short.ask("\nWhat is it?", max_tokens=12)
    assert found.token_ids == wanted.token_ids
    assert found.tokens.prompt == wanted.tokens.prompt


def test_a_question_leaves_no_trace(model: Loaded):
    session = model.session()
    session.see(picture(1), "\n1 s: ")
    first = session.ask("\nWhat is it?", max_tokens=12)
    held = session.positions
    session.ask("\nAnd where is the other one?", max_tokens=12)
    assert session.positions == held
    assert session.ask("\nWhat is it?", max_tokens=12).token_ids == first.token_ids


def test_another_question_to_the_model_ends_the_session(model: Loaded):
    session = model.session()
    session.see(picture(1))
    model.ask(picture(2), "What is it?", max_tokens=2)
    with pytest.raises(ContractError, match="this session is over"):
        session.see(picture(3))
    model.session().see(picture(3))


def test_what_is_too_old_is_forgotten_on_demand(model: Loaded):
    session = model.session()
    for n in range(4):
        session.see(picture(n), "", float(n))
    assert [span.at_s for span in session.keep(lambda span: span.at_s >= 2)] == [0, 1]
    assert [span.at_s for span in session.remembered] == [2, 3]


def test_a_picture_over_the_budget_is_refused_and_the_session_goes_on(model: Loaded):
    session = model.session(vision_tokens=4)
    with pytest.raises(ContextOverflow, match="do not fit its 4 in the ring"):
        session.see(picture(1))
    session.note("\nstill there")
    assert session.ask("\nWhat?", max_tokens=12).token_ids


def test_one_picture_is_asked_about_as_ask_would(model: Loaded):
    """Up to where a prompt is tokenised in pieces, a session's prompt is the template's."""
    session = model.session()
    session.see(picture(5))
    found = session.ask("What is it?", max_tokens=12)
    messages = [{"role": "user", "content": [
        {"type": "image", "image": model.encode(picture(5), among=2)},
        {"type": "text", "text": "What is it?"},
    ]}]  # fmt: skip
    wanted = model.ask(messages=messages, max_tokens=12)
    assert found.tokens.visual == wanted.tokens.visual
    assert found.tokens.prompt == wanted.tokens.prompt
    assert found.token_ids == wanted.token_ids


def test_a_cache_with_convolutions_takes_no_session(tmp_path: Path):
    tiny.lfm2_vl(tmp_path / "checkpoint")
    export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions())
    with (
        edgevlm.load(tmp_path / "bundle", threads=2, spin=False) as loaded,
        pytest.raises(ContractError, match=r"cannot forget frames.*convolutions"),
    ):
        loaded.session()
