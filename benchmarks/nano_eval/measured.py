"""Measures the parts of the model card that were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.anomaly import Told, fixture, texture, told
from benchmarks.drawn_things import SIDE, cases
from benchmarks.locate import looked
from benchmarks.nano_eval.budgets import by_budget
from benchmarks.nano_eval.costs import costs
from benchmarks.nano_eval.found import Found, Heads
from benchmarks.nano_eval.heads import classified, prompted, same_classes, segmented
from benchmarks.nano_eval.pairs import paired
from benchmarks.nano_eval.posed import Posed
from benchmarks.nano_eval.questions import SetScores, ask_examples, ask_posed
from benchmarks.nano_eval.real import photographs
from benchmarks.nano_eval.sets import (
    COMPOSED,
    FIRST,
    compositions,
    held_out,
    made_sets,
    pictures,
    rendered_set,
    scene_sets,
)
from benchmarks.photographs import PHOTOGRAPHS
from edgevlm.bundle import open_bundle
from edgevlm.bundle.abilities import abilities
from edgevlm.export.nano_data.picture import Picture
from edgevlm.export.nano_data.stamps import held_out_stamps
from edgevlm.runtime.device.bench import cpu_name
from edgevlm.runtime.device.evaluation.summary import reliability
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm

PARTS = ("questions", "photographs", "tokens", "heads", "anomaly", "locate", "costs")
PAIRS_FROM = 3  # times as many pictures as pairs of a kind
SHOTS = 3  # pictures of a thing that is looked for
GOOD = 4  # pictures that an anomaly bank is taught
HEADS = ("segment", "masks", "classify")
PAIR_FAMILY, HEAD_FAMILY = 20, 21  # of picture numbers
Report = Callable[[int, int, str], None]


def measured(
    bundle: Path, count: int, threads: int, parts: Sequence[str] | None, report: Report
) -> tuple[Found, list[tuple[Posed, str]]]:
    """Measure a bundle.

    Args:
        bundle: its folder or ``.evlm`` file.
        count: questions of every kind; pictures and pairs follow from it.
        threads: of the engine.
        parts: of ``PARTS``; None takes all, but budgets only where the bundle has several.
        report: called as the work goes on.

    Returns:
        the figures, and wrong answers to questions about pictures that may be shown.

    Raises:
        ConfigError: budgets of visual tokens of a bundle that has none.
        ExportError: a package that pictures are made from is not installed.
    """
    begun = time.perf_counter()
    opened = open_bundle(bundle)
    sets: list[SetScores] = []
    missed: list[tuple[Posed, str]] = []
    shown = opened.manifest.visual_tokens
    counts = [budget.count for budget in shown.budgets] if shown else []
    if parts is None:
        parts = [part for part in PARTS if counts or part != "tokens"]
    budgets = by_budget(bundle, counts, count, threads, report) if "tokens" in parts else None
    with load(bundle, threads=threads) as model:
        if "questions" in parts:
            for one, publishable in _asked_sets(model, count, report):
                sets.append(one)
                missed += one.missed if publishable else []
        if "photographs" in parts:
            asked = photographs()
            sets.append(ask_examples(model, "photographs", "nothing", asked, report))
        first = next((s.answers for s in sets if s.name == COMPOSED), [])
        found = Found(
            bundle_id=opened.id,
            precision=opened.manifest.precision,
            count=count,
            machine=f"{cpu_name()}, {threads or 'all'} threads",
            sets=tuple(sets),
            answers_bins=tuple(reliability(first)),
            budgets=budgets,
            heads=_heads(model, count) if "heads" in parts else None,
            anomalies=_anomalies(model, count) if "anomaly" in parts else (),
            located=looked(model, cases(held_out_stamps(), -(-count // 3), SHOTS, SIDE, FIRST))
            if "locate" in parts
            else None,
            costs=costs(model, [p.image_rgb for p in _composed(24)], threads)
            if "costs" in parts
            else None,
            seconds=time.perf_counter() - begun,
        )
    return found, missed


def _asked_sets(model: Vlm, count: int, report: Report) -> Sequence[tuple[SetScores, bool]]:
    names = sorted({stamp.name for stamp in held_out(known=True)})
    found = []
    for one in (*scene_sets(count), *made_sets(count), rendered_set(count)):
        scored = ask_posed(model, one.name, one.seen, one.questions, names, report)
        found.append((scored, one.publishable))
    pairs = -(-count // 2)
    drawn = list(islice(pictures(compositions(known=True).scene, PAIR_FAMILY), PAIRS_FROM * pairs))
    seen = "other stamps of these kinds, the backgrounds"
    both = paired(drawn, names, pairs)
    found.insert(1, (ask_posed(model, "balanced pairs", seen, both, names, report), False))
    return found


def _composed(count: int) -> list[Picture]:
    """Held-out compositions with at least one thing."""
    drawn = pictures(compositions(known=True).scene, HEAD_FAMILY)
    return list(islice((p for p in drawn if p.things), count))


def _heads(model: Vlm, count: int) -> Heads:
    """What this bundle has the heads for."""
    can = abilities(model.bundle.manifest)
    names = sorted({stamp.name for stamp in held_out(known=True)})
    scenes = _composed(count)
    single = [p for p in _composed(4 * count) if len(p.things) == 1][:count]
    by_point, by_box = prompted(model, scenes) if "masks" in can else (None, None)
    share, sure = classified(model, single, names) if "classify" in can else (None, [])
    paths = (p.path() for p in PHOTOGRAPHS)
    real = [load_image(path, "white") for path in paths if path is not None]
    return Heads(
        segmented=segmented(model, scenes, names) if "segment" in can else None,
        by_point=by_point,
        by_box=by_box,
        classified=share,
        labels=len(names),
        classified_bins=tuple(sure),
        classes=same_classes(model, real),
        lacks=tuple(head for head in HEADS if head not in can),
    )


def _anomalies(model: Vlm, count: int) -> tuple[Told, ...]:
    """A part on a fixture, and three textures, as ``benchmarks.anomaly`` tests them."""
    cases = [fixture(GOOD, pictures=count)]
    cases += [texture(name, GOOD, pictures=count) for name in ("brick", "grass", "gravel")]
    return tuple(told(model, case) for case in cases)
