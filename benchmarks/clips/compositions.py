"""Clips of cut-out photographs on drawn backgrounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.clips.camera import Camera
from benchmarks.clips.clip import Clip, Role
from edgevlm.export.nano_data.backgrounds import table_scene, textured
from edgevlm.export.nano_data.stamps import Stamp, held_out_stamps, training_stamps
from edgevlm.export.nano_data.story import S, Story
from edgevlm.export.nano_data.table_story import Table, table_story
from edgevlm.frame import UInt8

SIZE = (640, 360)
FPS = 10.0
SEEDS: dict[Role, int] = {"tune": 1, "judge": 2}


def stamps_of(role: Role) -> tuple[Stamp, ...]:
    """What may be tuned with are stamps of the training half; held-out ones only judge."""
    return training_stamps() if role == "tune" else held_out_stamps()


def told(story: Story[S]) -> Callable[[], Iterator[UInt8]]:
    """The pictures of a story, frame by frame."""

    def pictures() -> Iterator[UInt8]:
        for index in range(story.count):
            yield story.paint(story.state(index))

    return pictures


def table(role: Role) -> Clip:
    """Things of all sizes on a table, in good light."""
    rng = np.random.default_rng([SEEDS[role], 10])
    how = Table(stamps=stamps_of(role), changes=60, fps=FPS, sides_px=(40, 170))
    story = table_story(table_scene(SIZE, rng), how, rng)
    camera = Camera(seed=SEEDS[role], noise=2.5, flicker=0.01, flicker_hz=0.7, quality=21)
    return _clip("table", role, "things of all sizes on a table", story, camera)


def shelf(role: Role) -> Clip:
    """Small things in poor light, through a camera that hunts for its exposure."""
    rng = np.random.default_rng([SEEDS[role], 11])
    how = Table(
        stamps=stamps_of(role), changes=60, fps=FPS, sides_px=(22, 60), things=(6, 14), sliding=0.1
    )
    ground = (textured(SIZE, rng) * 0.6).astype(np.uint8)
    story = table_story(ground, how, rng)
    camera = Camera(
        seed=SEEDS[role], noise=6.0, exposure_every_s=8, exposure=0.12, codec="mjpeg", quality=7
    )
    what = "small things in poor light, noisy, exposure in steps, Motion JPEG"
    return _clip("shelf", role, what, story, camera)


def window(role: Role) -> Clip:
    """Daylight that comes and goes over a minute."""
    rng = np.random.default_rng([SEEDS[role], 12])
    how = Table(stamps=stamps_of(role), changes=60, fps=FPS, sides_px=(30, 120), sliding=0.2)
    story = table_story(table_scene(SIZE, rng), how, rng)
    camera = Camera(
        seed=SEEDS[role], noise=3.0, drift=0.45, drift_s=30, warmer=0.25,
        flicker=0.005, flicker_hz=1.3, quality=24,
    )  # fmt: skip
    return _clip("window", role, "daylight drifts by half in half a minute", story, camera)


def quiet(role: Role) -> Clip:
    """A minute in which nothing changes but light and camera."""
    rng = np.random.default_rng([SEEDS[role], 13])
    how = Table(
        stamps=stamps_of(role), changes=0, fps=FPS, sides_px=(30, 140), things=(6, 6), quiet_s=60
    )
    story = table_story(table_scene(SIZE, rng), how, rng)
    camera = Camera(
        seed=SEEDS[role], noise=5.0, flicker=0.015, flicker_hz=0.9, exposure_every_s=15,
        exposure=0.08, drift=0.25, drift_s=50, quality=20,
    )  # fmt: skip
    what = "nothing changes for a minute but light, exposure and noise"
    return _clip("quiet", role, what, story, camera)


def watch(role: Role) -> Clip:
    """A fixed camera as it is mostly: something every few seconds."""
    rng = np.random.default_rng([SEEDS[role], 14])
    how = Table(
        stamps=stamps_of(role), changes=36, fps=15.0, sides_px=(60, 300), gap_s=(3, 7), sliding=0.3
    )
    story = table_story(table_scene((1280, 720), rng), how, rng)
    camera = Camera(seed=SEEDS[role], noise=2.5, flicker=0.005, flicker_hz=0.7, quality=23)
    return _clip("watch", role, "720p at 15 fps, a change every five seconds", story, camera)


def _clip(family: str, role: Role, what: str, story: Story[S], camera: Camera) -> Clip:
    return Clip(
        name=f"{family}-{role}",
        role=role,
        what=what,
        fps=story.fps,
        count=story.count,
        changes=story.changes,
        pictures=told(story),
        camera=camera,
    )
