"""Less work while the machine is hot, busy or short of memory, and more again when it is not.

The ladder is the user's: each step bounds rate, tokens or resolution. A step down is taken when one
reading has been over its upper mark for ``hold_s``, a step up when all have been under their lower
marks for ``recover_s``; between the marks nothing changes. So a machine that sits at a mark does
not swing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.box import GovernorSection
from edgevlm.runtime.stream.caps import UNCAPPED, Caps

HOTTEST_C = 150.0  # what reads higher is no temperature


@dataclass(frozen=True, slots=True)
class Reading:
    """How the machine is; None where it does not say.

    Args:
        celsius: of the hottest thermal zone.
        load: tasks that want a core, per core, over the last minute.
        free_mb: memory that can be had without swapping, in MB of 10^6 bytes.
    """

    celsius: float | None = None
    load: float | None = None
    free_mb: float | None = None


def read_machine(root: Path = Path("/"), cores: int | None = None) -> Reading:
    """Look at the machine.

    Args:
        root: of ``sys`` and ``proc``.
        cores: that the load is of; those of this process when None.
    """
    zones = root.glob("sys/class/thermal/thermal_zone*/temp")
    celsius = [value / 1000 for value in map(_number, zones) if value is not None]
    sane = [value for value in celsius if 0 < value < HOTTEST_C]
    load = _number(root / "proc/loadavg")
    cores = cores or len(os.sched_getaffinity(0))
    return Reading(
        celsius=max(sane, default=None),
        load=None if load is None else load / cores,
        free_mb=_free_mb(root / "proc/meminfo"),
    )


def _number(path: Path) -> float | None:
    """The first word of a file as a number; a zone that is switched off cannot be read."""
    try:
        return float(path.read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _free_mb(meminfo: Path) -> float | None:
    try:
        for line in meminfo.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (OSError, ValueError):
        pass
    return None


class Governor:
    """Climbs down and up the ladder; knows no clock.

    Args:
        settings: marks, times and ladder.
    """

    def __init__(self, settings: GovernorSection) -> None:
        self._settings = settings
        self._pressed: bool | None = None  # over a mark, under all, or between
        self._since_s = 0.0
        self.level = 0
        self.caps = UNCAPPED

    def look(self, reading: Reading, now_s: float) -> str | None:
        """Take a reading; what changed, in words, or None.

        Args:
            reading: of the machine.
            now_s: monotonic.
        """
        over, under = self._over(reading), self._under(reading)
        pressed = True if over else False if under else None
        if pressed != self._pressed:
            self._pressed, self._since_s = pressed, now_s
        if pressed is None:
            return None
        settings, lasted_s = self._settings, now_s - self._since_s
        if pressed and lasted_s >= settings.hold_s and self.level < len(settings.ladder):
            return self._go(self.level + 1, now_s, over)
        if not pressed and lasted_s >= settings.recover_s and self.level:
            return self._go(self.level - 1, now_s, "pressure is gone")
        return None

    def _go(self, level: int, now_s: float, reason: str) -> str:
        word = "down" if level > self.level else "up"
        self.level, self._since_s = level, now_s
        steps = self._settings.ladder[:level]
        bounds: dict[str, Any] = {
            name: next((v for s in reversed(steps) if (v := getattr(s, name)) is not None), None)
            for name in ("rate_hz", "max_tokens", "max_side")
        }
        says = ", ".join(f"{name} {value:g}" for name, value in bounds.items() if value)
        where = f"step {level} of {len(self._settings.ladder)}"
        self.caps = Caps(**bounds, why=f"governor: {where}: {says}" if level else "")
        return f"{word} to {where}, {reason}: {f'at most {says}' if says else 'nothing is bounded'}"

    def _over(self, reading: Reading) -> str:
        """The readings beyond their marks, in words."""
        s, said = self._settings, []
        if reading.celsius is not None and reading.celsius >= s.hot_c:
            said.append(f"{reading.celsius:.0f} degrees C")
        if s.busy is not None and reading.load is not None and reading.load >= s.busy:
            said.append(f"load {reading.load:.1f} a core")
        if s.low_mb is not None and reading.free_mb is not None and reading.free_mb <= s.low_mb:
            said.append(f"{reading.free_mb:.0f} MB free")
        return ", ".join(said)

    def _under(self, reading: Reading) -> bool:
        """True if no reading is near its mark."""
        s = self._settings
        cool = reading.celsius is None or reading.celsius <= s.cool_c
        calm = s.busy is None or reading.load is None or reading.load <= s.busy * s.margin
        enough = (
            s.low_mb is None or reading.free_mb is None or reading.free_mb >= s.low_mb / s.margin
        )
        return cool and calm and enough
