from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgevlm.export.nano_data.lettering import FACES, fitting_size, inked
from edgevlm.export.nano_data.picture import Picture
from edgevlm.export.nano_data.printed import WORDS, printed


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    rng = np.random.default_rng(9)
    return [printed(rng) for _ in range(150)]


def glyphs(picture: Picture) -> int:
    """Islands of ink inside the frame of a sign."""
    (sign,) = picture.things
    image = picture.image_rgb.astype(np.float32)
    paper = np.median(image[sign.mask], 0)
    unlike = cv2.GaussianBlur(np.abs(image - paper).max(2), (0, 0), 0.6)
    inner = cv2.erode(sign.mask.astype(np.uint8), np.ones((15, 15))) > 0
    ink = (unlike > 0.5 * unlike[inner].max()) & inner
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8))
    tall = stats[1:, cv2.CC_STAT_HEIGHT]
    return int((tall > 0.5 * tall.max()).sum())


def test_the_same_seed_gives_the_same_picture():
    one, other = (printed(np.random.default_rng(3), 240) for _ in range(2))
    assert one.image_rgb.shape == (240, 240, 3)
    assert (one.image_rgb == other.image_rgb).all()
    assert one.questions == other.questions


def test_there_are_as_many_letters_as_are_told(pictures: list[Picture]):
    agree = []
    for picture in pictures:
        text = next(q.answer for q in picture.questions if q.kind == "text")
        agree.append(glyphs(picture) == len(text.replace(" ", "")))
    assert np.mean(agree) > 0.85  # serifs may touch


def test_the_whole_sign_is_in_the_picture(pictures: list[Picture]):
    for picture in pictures:
        x0, y0, x1, y1 = picture.things[0].box_xyxy
        assert 0 < x0 < x1 < 224
        assert 0 < y0 < y1 < 224


def test_words_and_codes_are_varied_and_questions_balanced(pictures: list[Picture]):
    texts = {next(q.answer for q in p.questions if q.kind == "text") for p in pictures}
    codes = texts - set(WORDS)
    assert len(texts & set(WORDS)) > 30
    assert len(codes) > 50
    assert {len(code) for code in codes} == {2, 3, 4}
    yes = [q.answer == "yes" for p in pictures for q in p.questions if q.text.startswith("Does")]
    assert 0.35 < np.mean(yes) < 0.65
    assert all(any(q.kind == "unanswerable" for q in p.questions) for p in pictures)


def test_a_line_fits_where_it_is_said_to():
    for face in FACES:
        size = fitting_size("EXIT", face, 150, 40)
        height, width = inked("EXIT", face, round(size)).shape
        assert width <= 153
        assert height <= 42
        assert width > 140 or height > 37
