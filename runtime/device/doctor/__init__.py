"""What works on this machine, and how to mend what does not: one file a subject.

Everything is read from files under one root, so that a board can be examined from a copy of its
files. Only on the live machine are engines and codecs asked what they can do.
"""

from __future__ import annotations

from edgevlm.runtime.device.doctor import (
    access,
    cameras,
    engines,
    gpu,
    host,
    memory,
    power,
    tensorrt,
    video,
)
from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.installed import Python
from edgevlm.runtime.device.doctor.machine import Machine
from edgevlm.runtime.device.doctor.tree import FileTree

_PROBES = (
    host.probe,
    engines.probe,
    gpu.probe,
    tensorrt.probe,
    memory.probe,
    power.probe,
    video.probe,
    cameras.probe,
    access.probe,
)

__all__ = ["FileTree", "Finding", "Python", "examine"]


def examine(tree: FileTree | None = None, python: Python | None = None) -> list[Finding]:
    """Look at a machine.

    Args:
        tree: its files; this machine's by default.
        python: the interpreter that edgevlm would run in; this one by default.
    """
    machine = Machine.read(tree or FileTree(), python or Python.running())
    return [finding for probe in _PROBES for finding in probe(machine)]
