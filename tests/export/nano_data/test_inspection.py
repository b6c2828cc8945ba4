from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.picture import Picture, Question

SIDE = 224


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(5)
    return [inspection(rng, SIDE) for _ in range(240)]


def asked(picture: Picture, start: str) -> Question | None:
    return next((q for q in picture.questions if q.text.startswith(start)), None)


def wrong(picture: Picture) -> str:
    question = asked(picture, "What is wrong")
    assert question is not None
    return question.answer


def together(picture: Picture) -> np.ndarray:
    return np.any([thing.mask for thing in picture.things], axis=0)


def centre(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def test_the_same_seed_gives_the_same_picture():
    one, other = (inspection(np.random.default_rng(3)) for _ in range(2))
    assert (one.image_rgb == other.image_rgb).all()
    assert one.questions == other.questions
    assert (one.image_rgb != inspection(np.random.default_rng(4)).image_rgb).any()


def test_parts_are_counted_as_their_pixels_are(pictures: list[Picture]):
    for picture in pictures:
        islands = cv2.connectedComponents(together(picture).astype(np.uint8))[0] - 1
        question = asked(picture, "How many")
        assert question is not None
        assert int(question.answer) == islands == len(picture.things)
        assert picture.image_rgb.shape == (SIDE, SIDE, 3)


def test_boxes_and_masks_agree(pictures: list[Picture]):
    for thing in (thing for picture in pictures for thing in picture.things):
        x0, y0, x1, y1 = thing.box_xyxy
        assert thing.mask[y0:y1, x0:x1].sum() == thing.mask.sum() > 80
        assert thing.mask[y0:y1, x0].any()
        assert thing.mask[y0, x0:x1].any()


def test_parts_stand_out_from_the_plate_as_their_masks_say(pictures: list[Picture]):
    for picture in pictures[:60]:
        image = picture.image_rgb.astype(np.int16)
        for thing in picture.things:
            grown = cv2.dilate(thing.mask.astype(np.uint8), np.ones((9, 9))) > 0
            grown &= cv2.dilate(together(picture).astype(np.uint8), np.ones((5, 5))) == 0
            inside, around = np.median(image[thing.mask], 0), np.median(image[grown], 0)
            assert np.abs(inside - around).max() > 12, (picture.scene, thing.colour)


def test_what_is_missing_is_where_it_is_said(pictures: list[Picture]):
    checked = 0
    for picture in pictures:
        grid, kind = picture.scene.split(" on ")[0].split(" ", 1)
        rows, columns = map(int, grid.split("x"))
        question = asked(picture, f"Which {kind} is missing")
        if "missing" not in wrong(picture) or min(rows, columns) < 2 or question is None:
            continue
        centres = np.array([centre(t.mask) for t in picture.things])
        low, high = centres.min(0), centres.max(0)
        across = {"left": 0.0, "middle": 0.5, "right": 1.0}
        down = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
        first, second = re.fullmatch(r"the (\w+) (\w+) one", question.answer).groups()  # type: ignore[union-attr]
        place = low + np.array([across[second], down[first]]) * (high - low)
        assert np.linalg.norm((centres - place) / (high - low), axis=1).min() > 0.3
        checked += 1
    assert checked >= 8


def test_the_odd_one_is_odd_where_it_is_said(pictures: list[Picture]):
    checked = 0
    for picture in pictures:
        if "wrong colour" not in wrong(picture):
            continue
        paints = np.array([np.median(picture.image_rgb[t.mask], 0) for t in picture.things])
        apart = np.abs(paints - np.median(paints, 0)).sum(1)
        odd = picture.things[int(apart.argmax())]
        question = asked(picture, "Which")
        assert question is not None
        away = centre(odd.mask) - centre(np.any([t.mask for t in picture.things], axis=0))
        for word, (axis, sign) in {
            "left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)
        }.items():  # fmt: skip
            assert word not in question.answer or sign * away[axis] > 0
        checked += 1
    assert checked >= 20


def test_a_scratched_part_is_the_one_with_an_edge_too_many(pictures: list[Picture]):
    found = []
    for picture in pictures:
        if "scratched" not in wrong(picture):
            continue
        grey = cv2.GaussianBlur(cv2.cvtColor(picture.image_rgb, cv2.COLOR_RGB2GRAY), (0, 0), 0.7)
        rough = []
        for thing in picture.things:
            core = cv2.erode(thing.mask.astype(np.uint8), np.ones((5, 5))) > 0
            rough.append(float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[core].mean()))
        question = asked(picture, "Which")
        assert question is not None
        away = centre(picture.things[int(np.argmax(rough))].mask) - centre(together(picture))
        axes = {"left": (0, -1), "right": (0, 1), "top": (1, -1), "bottom": (1, 1)}
        found.append(all(w not in question.answer or s * away[a] > 0 for w, (a, s) in axes.items()))
    assert len(found) >= 20
    assert np.mean(found) > 0.9


def test_yes_is_as_frequent_as_no(pictures: list[Picture]):
    said = {
        word: {"yes": 0, "no": 0}
        for word in ("missing|empty", "colour", "scratch", "align|out of", "order|good")
    }
    for question in (q for p in pictures for q in p.questions if q.answer in ("yes", "no")):
        (word,) = [w for w in said if re.search(w, question.text)]
        said[word][question.answer] += 1
    for word, counts in said.items():
        share = counts["yes"] / sum(counts.values())
        assert 0.35 < share < 0.65, (word, counts)


def test_states_are_equally_frequent(pictures: list[Picture]):
    faults = [wrong(p) for p in pictures]
    for word in ("nothing", "missing", "wrong colour", "scratched", "misaligned"):
        assert 0.12 < np.mean([word in fault for fault in faults]) < 0.28


def test_what_cannot_be_seen_is_not_told(pictures: list[Picture]):
    for picture in pictures:
        (question,) = [q for q in picture.questions if q.kind == "unanswerable"]
        assert question.answer == "I cannot tell"
