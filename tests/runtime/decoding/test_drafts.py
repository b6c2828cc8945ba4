"""Drafts change nothing: every kind of decoder, every draft, against one token after another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgevlm.bundle import Bundle
from edgevlm.bundle.generation import GenerationRules
from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT
from edgevlm.export.targets.relower import relower
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.batch_shape import measure, needed_gap
from edgevlm.runtime.model.decode import Budget, Decoding, Generation
from edgevlm.runtime.model.decoder import Decoder, open_decoder
from edgevlm.runtime.model.draft import LONGEST, LOSS_ALLOWED, LOSS_SHARE, ROW_COST, Drafts
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.logit_rules import LogitRules
from edgevlm.runtime.model.passes import PREFILL_CHUNK, Passes
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.sampling import Sampler, SamplingOptions
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.tensors import Float32
from tests.export.targets.specs import FEATURES, bundle_of, spec_of

PROMPT = [7, 30, 81, 4, 30, 81, 66, 2, 7, 30]
ANSWER = 24
NEVER: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Case:
    """A decoder of random weights, ready to answer."""

    decoder: Decoder
    table: EmbeddingTable
    needed: float

    def answer(
        self,
        drafts: Drafts | None,
        limit: int = ANSWER,
        rules: GenerationRules | None = None,
        stop_ids: frozenset[int] = NEVER,
    ) -> Generation:
        """The greedy answer to ``PROMPT``."""
        self.decoder.rewind(0)
        chosen = rules or GenerationRules()
        drafter = drafts.begin(PROMPT, stop_ids) if drafts else None
        decoding = Decoding(
            passes=Passes(self.decoder, self.table, self.needed),
            stop_ids=stop_ids,
            rules=LogitRules(chosen, PROMPT, limit),
            sampler=Sampler(SamplingOptions()),
            budget=Budget(max_tokens=limit),
            drafter=drafter,
        )
        said = list(decoding.tokens(Rows(self.table.rows(PROMPT)), limit))
        assert said == decoding.result.token_ids
        if drafter is not None:
            drafter.end()
        return decoding.result


def opened(bundle: Bundle, backend: Backend, path: Path) -> Case:
    decoder, table = open_decoder(bundle.manifest, backend.load(path)), EmbeddingTable(bundle)
    shape = measure(decoder, table, backend)
    assert decoder.length == 0
    precision = bundle.manifest.graphs["decoder"].precision
    return Case(decoder, table, needed_gap(shape, precision))


WIDE = [name for name in FEATURES if name != "prefix attention"]
CASES = [
    *itertools.product(WIDE, ("fp32", "int4"), ("ort-gqa",)),
    ("gemma 3", "fp32", ONNX_STD),
    ("short convolutions", "fp32", ONNX_STD),
    ("rows and columns", "fp32", TRT10_COMPAT),
]


@pytest.fixture(scope="module", params=CASES, ids=", ".join)
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    feature, precision, lowering = request.param
    root = tmp_path_factory.mktemp("decoder")
    bundle = bundle_of(spec_of(feature), root / "bundle", precision, capacity=64)
    path = bundle.path("decoder.onnx")
    if lowering != "ort-gqa":
        (root / "other").mkdir()
        path = relower(bundle, lowering, None, root / "other")["decoder"].path
    made = opened(bundle, open_backend("ort-cpu", threads=1, spin=False), path)
    yield made
    made.decoder.close()


def same(one: Generation, other: Generation) -> bool:
    """The same answer, whatever was drafted for either."""
    assert abs(one.log_probability - other.log_probability) < 0.1
    return (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_is_drafted_the_answer_is_that_of_single_steps(case: Case, data: st.DataObject):
    plain = case.answer(None)
    drafts = Drafts()
    for _ in range(data.draw(st.integers(1, 4), label="earlier answers")):
        earlier = list(plain.token_ids)
        for at in data.draw(st.lists(st.integers(0, ANSWER - 1), max_size=4), label="changed"):
            earlier[at] = data.draw(st.integers(0, 119))
        drafts.end(earlier)
    for _ in range(2):
        found = case.answer(drafts)
        assert same(found, plain)
        assert case.needed or found.log_probability == plain.log_probability


def test_the_last_answer_again_costs_few_passes(case: Case):
    plain, drafts = case.answer(None), Drafts()
    case.answer(drafts)
    for _ in range(6):
        again = case.answer(drafts)
        assert same(again, plain)
        assert again.accepted <= again.drafted
    assert again.accepted >= (ANSWER // 3 if case.needed < 1e-2 else 0)


def test_the_rules_of_a_checkpoint_hold_for_drafts_too(case: Case):
    for rules in (
        GenerationRules(no_repeat_ngram_size=2),
        GenerationRules(repetition_penalty=1.4, suppress_token_ids=(30, 81)),
        GenerationRules(forced_eos_token_ids=(5,)),
    ):
        plain, drafts = case.answer(None, rules=rules), Drafts()
        for _ in range(2):
            assert same(case.answer(drafts, rules=rules), plain)


def test_an_end_token_within_a_draft_ends_the_answer(case: Case):
    whole = case.answer(None)
    end = whole.token_ids[9]
    first = whole.token_ids.index(end)
    drafts = Drafts()
    drafts.end(whole.token_ids)
    stopped = case.answer(drafts, stop_ids=frozenset([end]))
    assert stopped.token_ids == whole.token_ids[: first + 1]
    assert stopped.finish_reason == "stop"


@pytest.mark.parametrize("limit", [1, 2, 3, 54, 55, 200])
def test_drafts_stay_within_the_budget_and_the_cache(case: Case, limit: int):
    room = min(limit, 64 - len(PROMPT) + 1)
    plain, drafts = case.answer(None, room), Drafts()
    assert len(plain.token_ids) == room
    for _ in range(3):
        found = case.answer(drafts, room)
        assert same(found, plain)
        assert case.decoder.length <= case.decoder.capacity


def test_a_row_is_the_same_to_the_last_bit_whatever_it_is_computed_with(tmp_path: Path):
    backend = open_backend("ort-cpu", threads=1, spin=False)
    for precision in ("fp32", "int8", "int4"):
        bundle = bundle_of(spec_of("llama"), tmp_path / precision, precision, capacity=64)
        made = opened(bundle, backend, bundle.path("decoder.onnx"))
        assert made.needed == 0
        assert case_logits(made, [1] * 40).tobytes() == case_logits(made, [40]).tobytes()
        assert case_logits(made, [7, 33]).tobytes() == case_logits(made, [2, 1, 37]).tobytes()
        made.decoder.close()


def case_logits(case: Case, cuts: list[int]) -> Float32:
    """Logits at 40 positions, computed in calls of so many rows."""
    rows = case.table.rows([(7 * n) % 119 + 1 for n in range(40)])
    case.decoder.rewind(0)
    ends = list(itertools.accumulate(cuts))
    parts = [
        case.decoder.append(rows[end - count : end], count).copy()
        for count, end in zip(cuts, ends, strict=True)
    ]
    return np.concatenate(parts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.lists(st.lists(st.integers(1, 9), max_size=30), max_size=4),
)
def test_a_told_backend_says_what_it_was_told_whatever_was_said_before(
    tiny: Bundle, script: list[int], earlier: list[list[int]]
):
    from edgevlm.runtime.backends.scripted import ScriptedBackend

    drafts = Drafts()
    for answer in earlier:
        drafts.end(answer)
    end = tiny.manifest.language.prompt.stop_token_ids[0]
    with Vlm(tiny, ScriptedBackend(tiny.manifest, [*script, end])) as model:
        for draft in (False, True, drafts, drafts):
            answer = model.ask(None, "Hi", max_tokens=60, draft=draft)
            assert answer.token_ids == (*script, end)
            tokens = answer.tokens
            assert 0 <= tokens.accepted <= tokens.drafted
            assert tokens.accepted <= len(script)
            assert (tokens.drafted == 0) or draft


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, LONGEST)), max_size=300))
def test_drafting_never_loses_more_than_its_bound(outcomes: list[tuple[bool, int]]):
    drafts, loss = Drafts(), 0.0
    for steps, (before, right) in enumerate(outcomes, 1):
        made = drafts.length(before, 40)
        right = min(right, made)
        drafts.note(before, made, right, 0)
        loss += ROW_COST * max(0, made - 1) - right
        assert loss <= LOSS_ALLOWED + LOSS_SHARE * steps + 1e-9


def test_wrong_drafts_get_rare_and_right_ones_long():
    wrong, right = Drafts(), Drafts()
    for _ in range(200):
        wrong.note(True, wrong.length(True, 40), 0, 0)
        made = right.length(True, 40)
        right.note(True, made, made, 0)
    assert sum(wrong.length(True, 40) > 1 for _ in range(17)) <= 1
    assert right.length(True, 40) == LONGEST


def test_a_long_prompt_is_left_between_two_chunks(tiny: Bundle):
    asked: list[int] = []

    def stop_at_once() -> bool:
        asked.append(1)
        return True

    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model:
        question = "x" * (2 * PREFILL_CHUNK)
        whole = model.ask(None, question, max_tokens=3)
        answer = model.ask(None, question, cancelled=stop_at_once)
        assert (answer.token_ids, answer.finish_reason) == ((), "cancelled")
        assert answer.confidence is None
        assert len(asked) == 1
        late = model.ask(None, question, deadline_ns=0)
        assert (late.token_ids, late.finish_reason) == ((), "deadline")
        again = model.ask(None, question, max_tokens=3)
    assert (again.token_ids, again.confidence) == (whole.token_ids, whole.confidence)


def test_sampling_drafts_nothing(tiny: Bundle):
    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as model:
        answer = model.ask(None, "aaaaaaaa", temperature=0.7, seed=3, max_tokens=20)
    assert answer.tokens.drafted == 0
