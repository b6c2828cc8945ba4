"""What is installed: Debian packages, Python distributions, shared libraries."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevlm.runtime.device.doctor.tree import FileTree

_METADATA = re.compile(r"([^-]+)-(\d[^-]*)(?:-.*)?\.(?:dist|egg)-info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that edgevlm runs in.

    Args:
        version: as ``3.10.12``.
        prefix: the virtual environment, or the installation.
        path: the folders it imports from, best first.
        groups: numbers of the user's groups; None for root, who may open everything.
    """

    version: str
    prefix: str
    path: tuple[str, ...]
    groups: frozenset[int] | None

    @classmethod
    def running(cls) -> Python:
        """This process."""
        import os
        import platform

        folders = tuple(p for p in sys.path if Path(p).is_dir())
        root = not hasattr(os, "getuid") or os.getuid() == 0
        groups = None if root else frozenset({*os.getgroups(), os.getgid()})
        return cls(
            version=platform.python_version(), prefix=sys.prefix, path=folders, groups=groups
        )

    @property
    def minor(self) -> str:
        """As ``3.10``."""
        return ".".join(self.version.split(".")[:2])


def debian_packages(tree: FileTree) -> dict[str, str]:
    """Name and version of every installed Debian package, from dpkg's own record."""
    found = {}
    for paragraph in (tree.text("/var/lib/dpkg/status") or "").split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if re.match(r"[A-Z][\w-]*: ", line)
        )
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found


def distributions(tree: FileTree, path: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Normalised name -> version and folder of every Python distribution, the first found first."""
    found: dict[str, tuple[str, str]] = {}
    for folder in path:
        for name in tree.names(folder, "*-info"):
            if match := _METADATA.fullmatch(name.rpartition("/")[2]):
                key = re.sub(r"[-_.]+", "-", match[1]).lower()
                found.setdefault(key, (match[2], folder))
    return found


def library_folders(tree: FileTree) -> list[str]:
    """Where the loader looks for libraries on Debian, Ubuntu and JetPack."""
    found = []
    for triple in ("aarch64-linux-gnu", "x86_64-linux-gnu"):
        base = f"/usr/lib/{triple}"
        found += [base, f"{base}/nvidia", f"{base}/tegra"]
    found += ["/usr/local/cuda/lib64", "/usr/lib64", "/usr/local/lib"]
    return [folder for folder in found if tree.exists(folder)]


def library(tree: FileTree, soname: str) -> str:
    """The full name of a library in the loader's folders; empty if it is in none."""
    for folder in library_folders(tree):
        if tree.exists(f"{folder}/{soname}"):
            return f"{folder}/{soname}"
    return ""


def library_version(tree: FileTree, stem: str) -> str:
    """The fullest version in the file names of a library: ``libcudnn.so.9.3.0`` is 9.3.0."""
    versions = [
        name.rpartition(".so.")[2]
        for folder in library_folders(tree)
        for name in tree.names(folder, f"{stem}.so.*")
    ]
    fullest = max((v.count(".") for v in versions), default=0)
    return newest(v for v in versions if v.count(".") == fullest)


def package_version(debs: Mapping[str, str], pattern: str) -> str:
    """The newest upstream version of the packages whose names fit; empty if none is there."""
    return newest(v.split("-")[0] for name, v in debs.items() if re.fullmatch(pattern, name))


def newest(versions: Iterable[str]) -> str:
    """The highest of dotted versions, number by number; empty if there is none."""
    return max(versions, key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default="")
