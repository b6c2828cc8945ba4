"""A few questions through the real bundle, and the report that comes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.anomaly import Told
from benchmarks.nano_eval.costs import costs
from benchmarks.nano_eval.found import Found, Heads, plain
from benchmarks.nano_eval.markdown import pages
from benchmarks.nano_eval.measured import measured
from benchmarks.nano_eval.plots import plot_budgets, plot_reliability
from benchmarks.nano_eval.posed import chosen
from benchmarks.nano_eval.questions import SetScores, ask_posed
from benchmarks.nano_eval.sets import own_questions
from benchmarks.nano_eval.sheet import draw_misses
from edgevlm.bundle import Bundle
from edgevlm.errors import ConfigError
from edgevlm.export.nano_data.printed import printed
from edgevlm.export.nano_data.scenes import BACKGROUNDS, BACKGROUNDS_PACKAGE
from edgevlm.export.nano_data.stamps import FOLDER, PACKAGE
from edgevlm.runtime.device.evaluation.calibration import Bin
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.device.evaluation.summary import reliability
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm
from tests.conftest import missing
from tests.export.nano.conftest import drawn, weights  # noqa: F401 - fixtures
from tests.nano_eval.made import LEFT, RIGHT, picture, thing
from tests.nano_eval.test_spoken import question

KIND = "text"


@pytest.fixture(scope="module")
def scored(nano: Bundle) -> SetScores:
    """Printed signs, a sentence and a box, through the model that is not trained for them."""
    questions = chosen(own_questions(printed, 5), 1)
    questions += [question("describe", "A zebra."), question("json", '{"name":"zebra"}')]
    with Vlm(nano, open_backend(threads=1)) as model:
        return ask_posed(model, "print", "nothing", questions, ["zebra"], lambda *_: None)


def test_a_set_is_asked_and_scored_by_kind(scored: SetScores):
    kinds = [score.kind for score in scored.scores]
    assert KIND in kinds
    assert not {"describe", "json"} & set(kinds)
    assert all(s.right.of == s.blind.of for s in scored.scores if s.blind)
    assert scored.described is not None
    assert scored.described.named.of == 2
    assert scored.boxed is not None
    assert len(scored.boxed.overlaps) == 1
    wrong = sum(s.right.of - s.right.count for s in scored.scores)
    assert len(scored.missed) == wrong


def test_the_report_and_the_json_hold_all_of_it(scored: SetScores, tmp_path: Path):
    found = Found(
        bundle_id="0123456789abcdef", precision="int4", count=1, machine="a machine",
        sets=(scored,), answers_bins=tuple(reliability(scored.answers)),
        heads=Heads(classes=Share(18, 18), lacks=("masks",)),
        anomalies=(Told(name="brick", area=0.9, ends=(0.8, 1.0), patches=0.7, alarms=0.0,
                        found=1.0, each_ms=3.0),),
        budgets={1: {"name": Share(4, 10)}, 49: {"name": Share(5, 10)}},
    )  # fmt: skip
    text = "\n\n".join(pages(found))
    for line in (
        "| ImageNet class as by the published weights, % | 100.0 [82.4, 100.0] |",
        "| `masks` | not in this bundle |",
        "| 1 | 40.0 [16.8, 68.7] | 80 % |",
        "| brick | 0.900 [0.800, 1.000] | 0.700 | 0.0 % | 100.0 % |",
        "**print** (training has seen: nothing)",
    ):
        assert line in text
    told = json.loads(json.dumps(plain(found)))
    assert len(told["sets"][0]["answers"]) == len(scored.answers)
    assert told["budgets"]["1"]["name"]["share"] == 0.4
    plot_budgets(found.budgets or {}, tmp_path / "budgets.png")
    plot_reliability({"answers": [Bin(count=3, confidence=0.5, right=0.4)]}, tmp_path / "r.png")
    for name in ("budgets.png", "r.png"):
        with Image.open(tmp_path / name) as plotted:
            assert np.asarray(plotted.convert("L")).std() > 1  # something is drawn


def test_wrong_answers_are_drawn(tmp_path: Path):
    one = question("describe", "A zebra and a mug.")
    assert draw_misses([(one, "A dog, I should say, and hardly more")], tmp_path / "a" / "s.jpg")
    with Image.open(tmp_path / "a" / "s.jpg") as sheet:
        drawn = np.asarray(sheet.convert("L"))
    assert (drawn[10:170, 10:170] < 30).all()  # the picture, which is black
    assert (drawn[180:] < 100).any()  # its words
    assert not draw_misses([], tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()


def test_costs_are_measured_in_a_process_of_its_own(nano: Bundle):
    shown = picture(thing("mug", LEFT), thing("zebra", RIGHT)).image_rgb
    with Vlm(nano, open_backend(threads=1)) as model:
        found = costs(model, [shown], 1)
    assert 0 < found.encode_ms < found.answer_ms
    assert found.visual_tokens == 16
    assert found.bundle_mb == pytest.approx(
        sum(p.stat().st_size for p in nano.root.rglob("*") if p.is_file()) / 1e6, abs=0.1
    )
    assert found.rss_mb > found.anonymous_mb > 50


@pytest.mark.slow
def test_budgets_and_heads_of_a_bundle_that_has_them(drawn: Bundle):  # noqa: F811
    if not FOLDER.is_dir() or not BACKGROUNDS.is_dir():
        missing(f"Debian's package {PACKAGE} or {BACKGROUNDS_PACKAGE} is not installed")
    found, _ = measured(drawn.root, 2, 1, ["tokens", "heads"], lambda *_: None)
    assert found.budgets is not None
    assert set(found.budgets) == {1, 4, 9, 16, 49}
    assert {kind: share.of for kind, share in found.budgets[1].items()} == {
        "presence": 2, "name": 2,
    }  # fmt: skip
    heads = found.heads
    assert heads is not None
    assert heads.lacks == ()
    assert heads.segmented is not None
    assert 0 <= heads.segmented.things.value <= heads.segmented.everything.high <= 1
    assert heads.by_box is not None
    assert heads.classified is not None
    assert heads.classified.of == 2
    assert heads.classes is not None
    assert heads.classes.count == heads.classes.of  # the encoder is frozen


def test_a_bundle_with_one_budget_has_nothing_to_compare(nano: Bundle):
    with pytest.raises(ConfigError, match="nothing to compare"):
        measured(nano.root, 2, 1, ["tokens"], lambda *_: None)
