"""Seeded moving shapes: a source for tests, demos and measurements that needs no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl

import numpy as np

from edgevlm.errors import ConfigError
from edgevlm.frame import BadFrame, Frame, UInt8
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Pace, arrived
from edgevlm.runtime.stream.sources.pixels import CvPixels
from edgevlm.runtime.stream.sources.uri import redact

SCENE_S = 4.0  # a scene moves for a third of this, stands still for a third, moves on
SHAPES = 6
_SUB = 4  # bits of a pixel that OpenCV draws with


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What follows ``synthetic:?``."""

    seed: int = 0
    fps: float = 30.0
    frames: int = 300
    size_wh: tuple[int, int] = (1920, 1080)
    live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scene:
    number: int
    background: UInt8
    kinds: tuple[int, ...]
    colours: tuple[tuple[int, ...], ...]
    radii_px: tuple[int, ...]
    starts_xy: tuple[tuple[float, ...], ...]
    speeds_xy: tuple[tuple[float, ...], ...]  # pixels a frame


class SyntheticSource:
    """Coloured shapes on a textured ground, with still stretches and sudden scene changes.

    Frame n depends on the options and n alone; while a scene stands still its frames are equal
    to the last bit.

    Args:
        uri: ``synthetic:?seed=0&fps=30&frames=300&size=1920x1080&live=0``, each option optional.
        realtime: deliver at ``fps`` as a live source does; so does ``live=1``.
        clock: stamps frames and is waited on for the pace.

    Raises:
        ConfigError: an unknown, repeated or impossible option.
    """

    def __init__(self, uri: str, realtime: bool = False, clock: Clock = SYSTEM) -> None:
        self.name = uri
        self.options = parse(uri)
        self.live = realtime or self.options.live
        self._clock = clock
        self._closed = False
        self._scene: _Scene | None = None

    def frames(self) -> Iterator[Frame | BadFrame]:
        """Yield ``frames`` frames."""
        pace = Pace(self._clock, lambda: self._closed)
        for index in range(self.options.frames):
            media_s = index / self.options.fps
            if self._closed or (self.live and not pace.wait(media_s)):
                return
            yield arrived(self._clock, index, CvPixels(self.render(index), "rgb"), media_s)

    def close(self) -> None:
        """End ``frames``."""
        self._closed = True

    def render(self, index: int) -> UInt8:
        """Frame ``index`` as uint8 RGB ``(height, width, 3)``."""
        length = max(3, round(SCENE_S * self.options.fps))
        number, phase = divmod(index, length)
        scene = self._scene
        if scene is None or scene.number != number:
            scene = self._scene = _scene(self.options, number)
        # Motion stops for the middle third and goes on where it stopped.
        moved = min(phase, length // 3) + max(0, phase - 2 * length // 3)
        return _draw(scene, moved, self.options.size_wh)


def parse(uri: str) -> Options:
    """The options of a ``synthetic:`` URI.

    Raises:
        ConfigError: an unknown, repeated or impossible option.
    """
    head, _, query = uri.partition("?")
    if head.lower() != "synthetic:":
        raise ConfigError(f"a synthetic source is synthetic:?seed=1&fps=30, got {redact(uri)!r}")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise ConfigError(f"unknown option {name!r} of synthetic:, which has {list(_OPTIONS)}")
        if name in given:
            raise ConfigError(f"option {name!r} of synthetic: is given twice")
        if not _OPTIONS[name][0](value):
            raise ConfigError(f"{name} of synthetic: must be {_OPTIONS[name][1]}, got {value!r}")
        given[name] = value
    width, _, height = given.get("size", "1920x1080").partition("x")
    return Options(
        seed=int(given.get("seed", "0")),
        fps=float(given.get("fps", "30")),
        frames=int(given.get("frames", "300")),
        size_wh=(int(width), int(height)),
        live=given.get("live", "0") == "1",
    )


def _matches(pattern: str, low: float, high: float) -> Callable[[str], bool]:
    form = re.compile(pattern)
    return lambda text: (
        bool(form.fullmatch(text))
        and all(low <= float(number) <= high for number in text.split("x"))
    )


_OPTIONS: dict[str, tuple[Callable[[str], bool], str]] = {
    "seed": (_matches(r"[0-9]{1,18}", 0, 1e18), "a whole number from 0"),
    "fps": (_matches(r"[0-9]{1,4}(\.[0-9]{1,6})?", 0.01, 1000), "a number from 0.01 to 1000"),
    "frames": (_matches(r"[0-9]{1,9}", 1, 1e9), "a whole number from 1"),
    "size": (_matches(r"[0-9]{1,4}x[0-9]{1,4}", 16, 8192), "WxH, each from 16 to 8192"),
    "live": (_matches(r"[01]", 0, 1), "0 or 1"),
}


def _scene(options: Options, number: int) -> _Scene:
    """The ground and the shapes of one scene; pixels a frame from screens in ten seconds."""
    import cv2

    width, height = options.size_wh
    rng = np.random.default_rng([options.seed, number])
    # Blotches of one tint, smooth enough to compress, rough enough to have texture.
    cells = rng.integers(-40, 40, (max(2, height // 24), max(2, width // 24), 1))
    tint = rng.integers(70, 186, 3)
    ground = cv2.resize((cells + tint).astype(np.uint8), (width, height))
    short = min(width, height)
    radii = tuple(int(r) for r in rng.integers(max(2, short // 24), max(3, short // 9), SHAPES))
    speeds = rng.uniform(0.1, 0.5, (SHAPES, 2)) * rng.choice([-1, 1], (SHAPES, 2))
    return _Scene(
        number=number,
        background=ground,
        kinds=tuple(int(k) for k in rng.permutation(SHAPES) % 3),
        colours=tuple(tuple(int(c) for c in row) for row in rng.integers(0, 256, (SHAPES, 3))),
        radii_px=radii,
        starts_xy=tuple(tuple(row) for row in (rng.random((SHAPES, 2)) * (width, height)).tolist()),
        speeds_xy=tuple(tuple(row) for row in (speeds * short / options.fps).tolist()),
    )


def _draw(scene: _Scene, moved: int, size_wh: tuple[int, int]) -> UInt8:
    import cv2

    image: UInt8 = scene.background.copy()
    for kind, colour, radius, start, speed in zip(
        scene.kinds, scene.colours, scene.radii_px, scene.starts_xy, scene.speeds_xy, strict=True
    ):
        x, y = (
            radius + _bounced(s + v * moved, side - 2 * radius)
            for s, v, side in zip(start, speed, size_wh, strict=True)
        )
        at, r = np.array([x, y]) * (1 << _SUB), radius << _SUB
        if kind == 0:
            centre = (round(at[0]), round(at[1]))
            cv2.circle(image, centre, r, colour, -1, cv2.LINE_AA, shift=_SUB)
            continue
        corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if kind == 1 else [(0, -1), (1, 1), (-1, 1)]
        outline = np.rint(at + np.array(corners) * r).astype(np.int32)
        cv2.fillConvexPoly(image, outline, colour, cv2.LINE_AA, shift=_SUB)
    return image


def _bounced(position: float, span: float) -> float:
    """``position`` reflected at 0 and ``span`` as often as it takes."""
    return span - abs(position % (2 * span) - span)
