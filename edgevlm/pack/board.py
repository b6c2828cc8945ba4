"""The Python and the processor that wheels are fetched for."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass

from packaging.tags import Tag, compatible_tags, cpython_tags

from edgevlm.errors import ConfigError

ARCHITECTURES = ("aarch64", "x86_64")
# Ubuntu 22.04, and so JetPack 6, has glibc 2.35; wheels for it run on everything newer.
_GLIBC = range(35, 16, -1)


@dataclass(frozen=True, slots=True)
class Board:
    """What pip calls a platform: a CPython on a Linux with glibc 2.35 or newer.

    Args:
        python: as ``3.10``, which JetPack 6 has; JetPack 7 has 3.12.
        arch: as ``uname -m`` says it.

    Raises:
        ConfigError: another form, a Python before 3.10, or an architecture without wheels.
    """

    python: str
    arch: str

    def __post_init__(self) -> None:
        match = re.fullmatch(r"3\.(\d{1,2})", self.python)
        if match is None or int(match[1]) < 10:
            raise ConfigError(
                f"--python is 3.10 or newer, written as 3.10, and not {self.python!r}; "
                "JetPack 6 has 3.10, JetPack 7 has 3.12"
            )
        if self.arch not in ARCHITECTURES:
            raise ConfigError(f"--arch is {' or '.join(ARCHITECTURES)}, not {self.arch!r}")

    @classmethod
    def here(cls, python: str | None = None, arch: str | None = None) -> Board:
        """This machine, in what is not given."""
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        return cls(python or running, arch or platform.machine())

    @property
    def jetson_cuda(self) -> int | None:
        """The CUDA of the JetPack that has this Python; None where that is no Jetson's.

        JetPack 6 has CUDA 12.6 and Python 3.10, JetPack 7 CUDA 13 and Python 3.12.
        """
        return {"3.10": 12, "3.12": 13}.get(self.python) if self.arch == "aarch64" else None

    @property
    def platforms(self) -> list[str]:
        """Platform tags, the newest first."""
        return [*(f"manylinux_2_{minor}_{self.arch}" for minor in _GLIBC),
                f"manylinux2014_{self.arch}"]  # fmt: skip

    @property
    def tags(self) -> frozenset[Tag]:
        """Every tag that a wheel for this board may carry."""
        version = tuple(map(int, self.python.split(".")))
        interpreter = f"cp{version[0]}{version[1]}"
        own = cpython_tags(version, platforms=self.platforms)
        return frozenset([*own, *compatible_tags(version, interpreter, self.platforms)])

    @property
    def environment(self) -> dict[str, str]:
        """What markers such as ``python_version < "3.11"`` are evaluated with."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def pip_options(self) -> list[str]:
        """How pip is told to look for this board's wheels, and for nothing but wheels."""
        platforms = [word for name in self.platforms for word in ("--platform", name)]
        version = ["--python-version", self.python, "--implementation", "cp"]
        return ["--only-binary", ":all:", *version, *platforms]
