"""Clips of real pictures: a street with people, and photographs under a camera that pans.

Only for judging: neither OpenCV's video nor scikit-image's photographs may train or tune anything.
The clip to tune panning with moves over composed pictures instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.clips.camera import Camera
from benchmarks.clips.clip import Clip, Role
from benchmarks.clips.compositions import FPS, SEEDS, stamps_of, told
from edgevlm.errors import SourceUnavailable
from edgevlm.export.nano_data.backgrounds import table_scene
from edgevlm.export.nano_data.composition import Placement, compose
from edgevlm.export.nano_data.layout import free_place
from edgevlm.export.nano_data.story import Story, Telling
from edgevlm.export.nano_data.table_story import Scene, Table, table_story
from edgevlm.frame import UInt8

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
VTEST_FRAMES = 795
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "rocket.jpg", "chelsea.png", "hubble_deep_field.jpg",
               "motorcycle_left.png")  # fmt: skip
PAN_SIZE = (480, 270)
VIEWS = 44
Window = tuple[int, float, float, float]  # picture, left, top, width in its pixels


def street(role: Role) -> Clip:
    """Pedestrians who are not labelled, and stamps pasted among them, which are.

    Raises:
        SourceUnavailable: Debian's opencv-doc is not installed.
    """
    if role != "judge":
        raise ValueError("OpenCV's street only judges")
    if not VTEST.is_file():
        raise SourceUnavailable(f"{VTEST} is not there: apt-get install opencv-doc")
    rng = np.random.default_rng([SEEDS[role], 30])
    with av.open(str(VTEST)) as video:
        first = next(video.decode(video=0)).to_ndarray(format="rgb24")
    how = Table(
        stamps=stamps_of(role), changes=44, fps=FPS, sides_px=(40, 150), gap_s=(1.2, 2.0),
        quiet_s=3.0, sliding=0.2,
    )  # fmt: skip
    story = table_story(first, how, rng)
    count = min(story.count, VTEST_FRAMES)

    def pictures() -> Iterator[UInt8]:
        with av.open(str(VTEST)) as video:
            for index, frame in enumerate(islice(video.decode(video=0), count)):
                picture = frame.to_ndarray(format="rgb24")
                yield compose(picture, story.state(index)).image_rgb

    return Clip(
        name="street-judge",
        role=role,
        what="a real street with people who are not labelled, stamps pasted in",
        fps=FPS,
        count=count,
        changes=tuple(c for c in story.changes if c.frame + FPS <= count),
        pictures=pictures,
        camera=Camera(seed=SEEDS[role], noise=2.0, quality=23),
        complete=False,
    )


def pan(role: Role) -> Clip:
    """A view that trembles, then pans or jumps to another one."""
    rng = np.random.default_rng([SEEDS[role], 31])
    pictures = _photographs() if role == "judge" else _collages(rng)
    story = _pan_story(pictures, rng)
    what = "photographs" if role == "judge" else "compositions"
    return Clip(
        name=f"pan-{role}",
        role=role,
        what=f"{what} under a trembling camera that pans and jumps",
        fps=FPS,
        count=story.count,
        changes=story.changes,
        pictures=told(story),
        camera=Camera(seed=SEEDS[role], noise=4.0, shake_px=0.35, quality=22),
    )


def _pan_story(pictures: Sequence[Image.Image], rng: np.random.Generator) -> Story[Window]:
    paint = _viewer(pictures)
    telling = Telling(paint, _window(pictures, 0, rng), FPS, rng, gap_s=(1.2, 2.6), quiet_s=4.0)
    while telling.told < VIEWS:
        now = telling.now
        if rng.random() < 0.5:
            other = int(rng.integers(len(pictures)))
            telling.change("cut", "view", _window(pictures, other, rng))
            continue
        to = _window(pictures, now[0], rng)
        steps = int(rng.integers(4, 9))
        path = [tuple(a + (b - a) * n / steps for a, b in zip(now[1:], to[1:], strict=True))
                for n in range(1, steps)]  # fmt: skip
        telling.change("pan", "view", to, [(now[0], left, top, w) for left, top, w in path])
    return telling.end()


def _window(pictures: Sequence[Image.Image], which: int, rng: np.random.Generator) -> Window:
    width, height = pictures[which].size
    largest = min(width, height * PAN_SIZE[0] / PAN_SIZE[1])
    w = float(rng.uniform(0.45, 0.85)) * largest
    h = w * PAN_SIZE[1] / PAN_SIZE[0]
    return which, float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h)), w


def _viewer(pictures: Sequence[Image.Image]) -> Callable[[Window], UInt8]:
    @lru_cache(maxsize=4)
    def paint(window: Window) -> UInt8:
        which, left, top, width = window
        scale = width / PAN_SIZE[0]
        view = pictures[which].transform(
            PAN_SIZE, Image.Transform.AFFINE, (scale, 0, left, 0, scale, top),
            Image.Resampling.BICUBIC,
        )  # fmt: skip
        return np.asarray(view)

    return paint


def _photographs() -> list[Image.Image]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [Image.open(folder / name).convert("RGB") for name in PHOTOGRAPHS]


def _collages(rng: np.random.Generator) -> list[Image.Image]:
    size, stamps = (900, 520), stamps_of("tune")
    pictures = []
    for _ in range(5):
        scene: Scene = ()
        while len(scene) < 12:
            stamp = stamps[rng.integers(len(stamps))]
            new = Placement(stamp=stamp, centre_xy=(0, 0), side=int(rng.integers(60, 160)))
            placed = free_place(new, scene, size, rng)
            scene += () if placed is None else (placed,)
        pictures.append(Image.fromarray(compose(table_scene(size, rng), scene).image_rgb))
    return pictures
