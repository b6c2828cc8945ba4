"""Every clip by name. Thresholds are chosen with those that end in ``-tune``, and no others."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from benchmarks.clips import compositions, panel, real, station
from benchmarks.clips.clip import Clip, Role

_BOTH: tuple[Callable[[Role], Clip], ...] = (
    compositions.table, compositions.shelf, compositions.window, compositions.quiet,
    station.station, panel.panel, real.pan,
)  # fmt: skip
_ROLES: tuple[Role, ...] = ("tune", "judge")
_MAKERS: dict[str, Callable[[], Clip]] = {
    f"{make.__name__}-{role}": partial(make, role) for role in _ROLES for make in _BOTH
}
_MAKERS["street-judge"] = partial(real.street, "judge")
FIXED_CAMERA = "watch-judge"  # the clip of benchmarks.fixed_camera
_APART = {FIXED_CAMERA: partial(compositions.watch, "judge")}


def names(role: Role | None = None) -> tuple[str, ...]:
    """The clips of a role, or of both, in order."""
    return tuple(name for name in _MAKERS if role is None or name.endswith(role))


@lru_cache(maxsize=1)
def clip(name: str) -> Clip:
    """The clip of that name; its story is told now, its frames when they are asked for.

    Raises:
        ValueError: there is none.
        ExportError: Debian's tuxpaint-stamps-default is not installed.
        SourceUnavailable: Debian's opencv-doc is not installed.
    """
    make = (_MAKERS | _APART).get(name)
    if make is None:
        raise ValueError(f"no clip is called {name!r}; there are {[*_MAKERS, *_APART]}")
    return make()
