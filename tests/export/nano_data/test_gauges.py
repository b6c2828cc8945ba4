from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgevlm.errors import ContractError
from edgevlm.export.nano_data.displays import SEGMENTS, display
from edgevlm.export.nano_data.gauges import gauge
from edgevlm.export.nano_data.inspection import inspection
from edgevlm.export.nano_data.picture import Picture
from edgevlm.export.nano_data.printed import printed


@pytest.fixture(scope="module")
def gauges() -> list[Picture]:
    rng = np.random.default_rng(7)
    return [gauge(rng) for _ in range(150)]


@pytest.fixture(scope="module")
def displays() -> list[Picture]:
    rng = np.random.default_rng(8)
    return [display(rng) for _ in range(150)]


def answers(picture: Picture, kind: str) -> list[str]:
    return [q.answer for q in picture.questions if q.kind == kind]


@pytest.mark.parametrize("generator", [gauge, display])
def test_the_same_seed_gives_the_same_picture(generator):
    one, other = (generator(np.random.default_rng(3), 256) for _ in range(2))
    assert one.image_rgb.shape == (256, 256, 3)
    assert (one.image_rgb == other.image_rgb).all()
    assert one.questions == other.questions
    assert (one.image_rgb != generator(np.random.default_rng(4), 256).image_rgb).any()


@pytest.mark.parametrize("generator", [gauge, display, inspection, printed])
def test_a_side_that_nobody_could_read_is_refused(generator):
    with pytest.raises(ContractError, match="at least 224 pixels, got 100"):
        generator(np.random.default_rng(3), 100)


def around(picture: Picture, radii: tuple[float, float]) -> np.ndarray:
    """Colours seen from the middle of a gauge, ``(degrees clockwise from the right, radii, 3)``."""
    x0, y0, x1, y1 = picture.things[0].box_xyxy
    angles = np.deg2rad(np.arange(360))[:, None]
    far = np.linspace(*radii, 12)[None] * (x1 - x0) / 2
    x, y = (x0 + x1 - 1) / 2 + far * np.cos(angles), (y0 + y1 - 1) / 2 + far * np.sin(angles)
    return cv2.remap(
        picture.image_rgb, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.float32)


def needle(picture: Picture) -> int:
    """The angle at which something crosses the empty ring between hub and numbers."""
    ring = around(picture, (0.24, 0.42))
    unlike = np.abs(ring - np.median(ring, 0)).sum(2).mean(1)
    unlike[46:134] = 0  # below: no scale, but perhaps a unit
    smooth = np.convolve(np.r_[unlike[-3:], unlike, unlike[:3]], np.ones(7), "valid")
    return int(smooth.argmax())


def test_the_needle_points_to_what_is_said(gauges: list[Picture]):
    for picture in gauges:
        step = int(picture.scene.split()[2])
        tick = ((needle(picture) - 135) % 360) / 27
        (answer,) = answers(picture, "number")
        tick = tick if tick < 11.5 else tick - 360 / 27  # a little before the first tick
        assert round(tick) * step == int(answer), picture.scene


def test_the_needle_is_in_the_red_where_that_is_said(gauges: list[Picture]):
    said = {"yes": 0, "no": 0}
    for picture in gauges:
        for answer in answers(picture, "state"):
            rim = around(picture, (0.80, 0.88))
            at = needle(picture)
            near = rim[(at + np.arange(-9, 10)) % 360].reshape(-1, 3)
            red = (near[:, 0] > 1.7 * near[:, 1]).mean() > 0.3
            assert answer == ("yes" if red else "no"), picture.scene
            said[answer] += 1
    assert 0.35 < said["yes"] / sum(said.values()) < 0.65


def test_every_tick_is_read(gauges: list[Picture]):
    ticks = {int(p.scene.split()[-1]) for p in gauges}
    assert ticks == set(range(11))


def test_digits_are_those_of_every_such_display():
    # Bit 0 is segment a ... bit 6 is segment g, as in any data sheet.
    codes = (0x3F, 0x06, 0x5B, 0x4F, 0x66, 0x6D, 0x7D, 0x07, 0x7F, 0x6F)
    assert tuple(sum(1 << "abcdefg".index(s) for s in d) for d in SEGMENTS) == codes


def test_lit_segments_are_those_of_the_number(displays: list[Picture]):
    lit_share, told_share = [], []
    for picture in displays:
        (number,) = answers(picture, "number")
        if not answers(picture, "colour"):
            continue  # off, or dark on light
        (case,) = picture.things
        glass = cv2.erode(case.mask.astype(np.uint8), np.ones((15, 15))) > 0
        light = np.where(glass, picture.image_rgb.max(2), 0)
        lit = light > 0.6 * np.percentile(light[glass], 98)
        _, _, stats, _ = cv2.connectedComponentsWithStats(lit.astype(np.uint8))
        areas = stats[1:, cv2.CC_STAT_AREA]
        segments = sum(len(SEGMENTS[int(digit)]) for digit in number)
        assert len(number) <= (areas > 0.1 * areas.max()).sum() <= segments
        lit_share.append(lit.sum() / glass.sum())
        told_share.append(segments / len(number))
    assert len(told_share) > 60
    assert np.corrcoef(lit_share, told_share)[0, 1] > 0.75


def test_numbers_have_one_to_three_digits(displays: list[Picture]):
    numbers = [a for p in displays for a in answers(p, "number")]
    assert {len(n) for n in numbers if n.isdigit()} == {1, 2, 3}
    assert all(str(int(n)) == n for n in numbers if n != "none")
    off = [p for p in displays if answers(p, "number") == ["none"]]
    assert 3 <= len(off) <= 30
    assert all("no" in answers(p, "state") for p in off)
