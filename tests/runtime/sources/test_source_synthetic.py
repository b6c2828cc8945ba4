from __future__ import annotations

import random
import time
from itertools import pairwise

import numpy as np
import pytest

from edgevlm.errors import ConfigError
from edgevlm.runtime.stream.sources.synthetic import SyntheticSource

SMALL = "synthetic:?seed=3&fps=6&frames=60&size=160x90"


def pictures(uri):
    return [frame.pixels.rgb() for frame in SyntheticSource(uri).frames()]


def test_a_seed_gives_the_same_frames_in_any_order():
    straight = pictures(SMALL)
    order = list(range(60))
    random.Random(0).shuffle(order)
    source = SyntheticSource(SMALL)
    for index in order:
        np.testing.assert_array_equal(source.render(index), straight[index])
    other = pictures(SMALL.replace("seed=3", "seed=4"))
    assert not any(np.array_equal(a, b) for a, b in zip(straight, other, strict=True))


def test_scenes_move_stand_still_and_cut():
    shots = pictures(SMALL)
    change = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(shots)]
    cuts, still = (24, 48), {*range(9, 17), *range(33, 41), *range(57, 60)}
    assert all(change[cut - 1] > 20 for cut in cuts)
    for index, amount in enumerate(change, start=1):
        if index in cuts:
            continue
        assert bool(amount == 0) is (index in still), index
        assert amount < 15
    assert shots[0].std() > 10


def test_frames_carry_index_position_and_pixels(clock):
    source = SyntheticSource(SMALL, clock=clock)
    frames = list(source.frames())
    assert (source.name, source.live) == (SMALL, False)
    assert [f.index for f in frames] == list(range(60))
    assert [f.media_s for f in frames] == pytest.approx([i / 6 for i in range(60)])
    assert frames[0].pixels.size_wh == (160, 90)
    assert frames[0].pixels.luma().shape == (90, 160)
    assert clock.slept_s == []


def test_the_defaults_are_those_the_help_shows():
    options = SyntheticSource("synthetic:").options
    assert (options.seed, options.fps, options.frames) == (0, 30.0, 300)
    assert options.size_wh == (1920, 1080)
    assert options.live is False
    given = SyntheticSource("synthetic:?seed=1&fps=29.97&frames=7&size=64x48&live=1").options
    assert (given.seed, given.fps, given.frames) == (1, 29.97, 7)
    assert given.size_wh == (64, 48)


@pytest.mark.parametrize(("uri", "realtime"), [(f"{SMALL}&live=1", False), (SMALL, True)])
def test_live_delivers_at_its_rate(uri, realtime, clock):
    source = SyntheticSource(uri, realtime=realtime, clock=clock)
    assert source.live
    stamps = [frame.monotonic_ns for frame in source.frames()]
    assert np.diff(stamps) / 1e9 == pytest.approx([1 / 6] * 59)
    assert max(clock.slept_s) <= 0.05


def test_close_ends_a_live_one(clock):
    source = SyntheticSource(f"{SMALL}&live=1", clock=clock)
    frames = source.frames()
    next(frames)
    clock.on_sleep = source.close
    assert list(frames) == []
    assert len(clock.slept_s) == 1


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("speed=3", r"unknown option 'speed' .*'seed', 'fps', 'frames', 'size', 'live'"),
        ("seed=1&seed=2", "'seed' of synthetic: is given twice"),
        ("seed=-1", "seed of synthetic: must be a whole number from 0, got '-1'"),
        ("seed=", "seed of synthetic: must be"),
        ("fps=0", "fps of synthetic: must be a number from 0.01 to 1000, got '0'"),
        ("fps=nan", "fps of synthetic: must be"),
        ("fps=1e3", "fps of synthetic: must be"),
        ("frames=0", "frames of synthetic: must be a whole number from 1, got '0'"),
        ("size=1920", "size of synthetic: must be WxH"),
        ("size=8x8", "size of synthetic: must be WxH, each from 16 to 8192"),
        ("size=9000x20", "size of synthetic: must be WxH"),
        ("live=yes", "live of synthetic: must be 0 or 1, got 'yes'"),
    ],
)
def test_bad_options_are_named(query, problem):
    with pytest.raises(ConfigError, match=problem):
        SyntheticSource(f"synthetic:?{query}")


@pytest.mark.parametrize("size", ["16x16", "16x900", "33x17"])
def test_odd_sizes_render(size):
    width, height = map(int, size.split("x"))
    for picture in pictures(f"synthetic:?frames=5&fps=1&size={size}"):
        assert picture.shape == (height, width, 3)


def test_full_hd_renders_in_less_than_ten_milliseconds():
    source = SyntheticSource("synthetic:?seed=1&frames=20")
    source.render(0)
    spent = []
    for index in range(1, 20):
        began = time.process_time()
        source.render(index)
        spent.append(time.process_time() - began)
    assert np.median(spent) < 0.010
