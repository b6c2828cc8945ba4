"""Power mode, temperatures, and whether the board is holding itself back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine
from edgevlm.runtime.device.doctor.tree import FileTree

# ``< POWER_MODEL ID=0 NAME=15W >``
_MODEL = re.compile(r"(?m)^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
# Cooling devices that slow something down; fans, backlights and warnings are others.
_THROTTLING = ("throttle", "cpufreq", "devfreq", "gpu")


def probe(machine: Machine) -> Iterator[Finding]:
    """Power mode, the GPU's clock, heat, and over-current events."""
    if machine.board.jetson:
        yield _mode(machine.tree)
        yield from _clock(machine.tree)
        yield from _current(machine.tree)
    yield from _heat(machine.tree)


def _mode(tree: FileTree) -> Finding:
    """The mode that nvpmodel wrote down, against those that its configuration offers."""
    conf = tree.text("/etc/nvpmodel.conf") or ""
    modes = {int(m[1]): m[2] for m in _MODEL.finditer(conf)}
    default = re.search(r"(?m)^\s*<\s*PM_CONFIG\s+DEFAULT=(\d+)", conf)
    status = re.search(r"pmode:(\d+)", tree.text("/var/lib/nvpmodel/status") or "") or default
    if not modes or status is None:
        return Finding(what="power-mode", verdict="unknown", found="no /etc/nvpmodel.conf",
                       remedy="sudo nvpmodel -q")  # fmt: skip
    now = int(status[1])
    offered = ", ".join(f"{number} {name}" for number, name in sorted(modes.items()))
    fastest = max(modes, key=lambda number: _watts(modes[number]))
    found = f"{modes.get(now, 'unknown')} (mode {now} of {offered})"
    if now == fastest:
        return Finding(what="power-mode", verdict="ok", found=found)
    return Finding(
        what="power-mode",
        verdict="warn",
        found=found,
        remedy=f"if supply and cooling allow it: sudo nvpmodel -m {fastest}",
    )


def _watts(name: str) -> float:
    """MAXN modes have no cap; the others are named by theirs."""
    if name.startswith(("MAXN", "MODE_MAXN")):
        return float("inf")
    match = re.search(r"(\d+)\s*W", name)
    return float(match[1]) if match else 0.0


def _clock(tree: FileTree) -> Iterator[Finding]:
    """The GPU's devfreq node: 17000000.gpu on Orin, gpu-gpc-0 on Thor."""
    for folder in tree.names("/sys/class/devfreq", "*gpu*"):
        now, top = tree.number(f"{folder}/cur_freq"), tree.number(f"{folder}/max_freq")
        if now is not None and top:
            governor = tree.text(f"{folder}/governor")
            found = f"{now // 1_000_000} of {top // 1_000_000} MHz, governor {governor}"
            yield Finding(what="gpu-clock", verdict="ok", found=found)
            return


def _current(tree: FileTree) -> Iterator[Finding]:
    """Over-current and under-voltage events since boot, each of which slowed the board down.

    Source: Jetson Linux Developer Guide, Platform Power and Performance, "Over-current Event
    Status": OC1 is under-voltage, OC2 average and OC3 instantaneous over-current.
    """
    meaning = {1: "under-voltage", 2: "average over-current", 3: "instantaneous over-current"}
    for folder in tree.names("/sys/class/hwmon", "hwmon*"):
        counts = {i: tree.number(f"{folder}/oc{i}_event_cnt") for i in meaning}
        if all(count is None for count in counts.values()):
            continue
        events = [f"{count} {meaning[i]}" for i, count in counts.items() if count]
        yield Finding(
            what="power-supply",
            verdict="warn" if events else "ok",
            found=f"since boot: {', '.join(events)}" if events else "no over-current since boot",
            remedy="a stronger supply or cable, or a lower mode: sudo nvpmodel -m N"
            if events
            else "",
        )
        return


def _heat(tree: FileTree) -> Iterator[Finding]:
    """The hottest zone against its own passive trip point, and cooling devices that act."""
    hottest, name, hot = None, "", False
    for zone in tree.names("/sys/class/thermal", "thermal_zone*"):
        value = tree.number(f"{zone}/temp")  # thousandths of a degree; absent while powered down
        if value is None or value < -200_000:
            continue
        if hottest is None or value > hottest:
            hottest, name = value, tree.text(f"{zone}/type") or zone
        hot = hot or any(value >= trip for trip in _passive_trips(tree, zone))
    acting = [
        kind
        for device in tree.names("/sys/class/thermal", "cooling_device*")
        if (tree.number(f"{device}/cur_state") or 0) > 0
        and (kind := tree.text(f"{device}/type") or "")
        and any(word in kind.lower() for word in _THROTTLING)
    ]
    if hottest is None:
        return
    found = f"{name} at {hottest / 1000:.0f} C"
    if hot or acting:
        found += f", slowed down by {', '.join(acting)}" if acting else ", at its passive limit"
    yield Finding(
        what="heat",
        verdict="warn" if hot or acting else "ok",
        found=found,
        remedy="more air: a fan, a heat sink; or a lower power mode" if hot or acting else "",
    )


def _passive_trips(tree: FileTree, zone: str) -> list[int]:
    trips = []
    for name in tree.names(zone, "trip_point_*_type"):
        value = tree.number(name.removesuffix("_type") + "_temp")
        if tree.text(name) == "passive" and value is not None and value > 0:
            trips.append(value)
    return trips
