"""Heads held against truths that they made themselves: everything overlaps, and nothing else does.

The bundle is a tiny random one, exported and run for real.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.nano_eval.heads import (
    BACKGROUND,
    classified,
    mask_overlap,
    mean,
    prompted,
    segmented,
)
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano_data.picture import Picture, SeenThing
from edgevlm.export.pipeline import export
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from tests.export.encoders import tiny_sam_clip

SIDE = 64
NAMES = ["zebra", "mug"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vlm]:
    root = tmp_path_factory.mktemp("heads")
    tiny_sam_clip.sam_clip(root / "checkpoint")
    export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    with load(root / "bundle", threads=1) as loaded:
        yield loaded


def scene(seed: int, things: tuple[SeenThing, ...] = ()) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return Picture(image_rgb=pixels, family="cut-outs", scene=str(seed), things=things)


def thing(name: str, mask: np.ndarray, box: tuple[int, int, int, int] = (8, 8, 40, 40)):
    return SeenThing(name=name, group="any", colour=None, box_xyxy=box, mask=mask)


def test_labels_overlap_wholly_with_a_truth_that_they_are(model: Vlm):
    pictures = []
    for seed in range(3):
        whole = scene(seed)
        found = model.segment(whole.image_rgb, [BACKGROUND, *NAMES])
        things = tuple(thing(name, found.mask(name)) for name in NAMES)
        pictures.append(replace(whole, things=things))
    said = segmented(model, pictures, [*NAMES, "hat", "bus"], absent=1)
    assert (said.everything.value, said.things.value) == (1, 1)
    assert said.crowded.value < 1  # a hat or a bus took some of it
    turned = [
        replace(p, things=tuple(replace(t, mask=~t.mask) for t in p.things)) for p in pictures
    ]
    assert segmented(model, turned, NAMES).things.value < 0.7


def test_masks_overlap_wholly_with_a_truth_that_they_are(model: Vlm):
    whole, box = scene(7), (8, 8, 40, 40)
    of_box = model.masks(whole.image_rgb, boxes=[box], several=False).best()[0]
    assert of_box.any()
    by_point, by_box = prompted(model, [replace(whole, things=(thing("mug", of_box, box),))])
    assert by_box.value == 1
    assert 0 <= by_point.value <= 1
    _, away = prompted(model, [replace(whole, things=(thing("mug", ~of_box, box),))])
    assert away.value == 0


def test_names_are_right_where_the_best_label_names_the_thing(model: Vlm):
    whole, nowhere = scene(9), np.ones((SIDE, SIDE), bool)
    (best, sure), (other, _) = model.classify(whole.image_rgb, NAMES)
    pictures = [replace(whole, things=(thing(name, nowhere),)) for name in (best, other)]
    share, bins = classified(model, pictures, NAMES)
    assert share == Share(1, 2)
    assert [(b.count, b.right) for b in bins] == [(2, 0.5)]
    assert bins[0].confidence == pytest.approx(sure)


def test_the_overlap_of_masks():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert mask_overlap(a, b) == 1
    a[:2], b[1:3] = True, True
    assert mask_overlap(a, b) == pytest.approx(1 / 3)


def test_a_mean_lies_in_its_interval():
    found = mean([0.0, 1.0, 1.0, 1.0])
    assert found.value == 0.75
    assert found.low <= 0.75 <= found.high
    assert found.of == 4
