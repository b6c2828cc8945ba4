"""Whether this user may open the GPU and the cameras."""

from __future__ import annotations

from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine


def probe(machine: Machine) -> Iterator[Finding]:
    """The groups that own the device nodes here, against the user's own."""
    wanted = _wanted(machine)
    mine, groups = machine.python.groups, _groups(machine)
    if not wanted:
        return
    if mine is None:
        yield Finding(what="groups", verdict="ok", found="root, who may open everything")
        return
    lost = [name for name in wanted if name in groups and groups[name] not in mine]
    yield Finding(
        what="groups",
        verdict="warn" if lost else "ok",
        found=f"not in {', '.join(lost)}" if lost else f"in {', '.join(wanted)}",
        remedy=f"sudo usermod -aG {','.join(lost)} $USER, then log in again" if lost else "",
    )


def _wanted(machine: Machine) -> list[str]:
    tree = machine.tree
    cameras = tree.names("/sys/class/video4linux", "video*")
    render = tree.names("/dev/dri", "renderD*")
    found = ["video"] if machine.board.jetson or cameras else []
    if (machine.board.jetson or machine.board.cards) and render:
        found.append("render")
    return found


def _groups(machine: Machine) -> dict[str, int]:
    """Number by name, from ``video:x:44:ubuntu``."""
    found = {}
    for line in (machine.tree.text("/etc/group") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            found[fields[0]] = int(fields[2])
    return found
