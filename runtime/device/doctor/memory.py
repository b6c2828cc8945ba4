"""Memory that is free, contiguous memory, swap, and what a desktop takes away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine

_SMALL_MB = 9_000  # boards of 8 GB report 7.4 to 7.9 GB
_LEAST_MB = 600  # `nano` in int4 peaks at 370 MB (README)
_CMA_MB = 512


def probe(machine: Machine) -> Iterator[Finding]:
    """MemAvailable, the contiguous pool of a Jetson, swap, and the desktop on small boards."""
    info = _meminfo(machine)
    if "MemTotal" not in info or "MemAvailable" not in info:
        yield Finding(what="memory", verdict="unknown", found="no /proc/meminfo",
                      remedy="mount /proc")  # fmt: skip
        return
    total, free = info["MemTotal"], info["MemAvailable"]
    yield Finding(
        what="memory",
        verdict="ok" if free >= _LEAST_MB else "warn",
        found=f"{free} MB available of {total} MB",
        remedy="" if free >= _LEAST_MB else "end what takes it: ps aux --sort=-rss | head",
    )
    if not machine.board.jetson:
        return
    if machine.board.soc == "Orin":
        yield _contiguous(info)
    if total < _SMALL_MB:
        yield _swap(machine, info)
        yield _desktop(machine)


def _meminfo(machine: Machine) -> dict[str, int]:
    """MB by name, from lines like ``MemTotal:  7802848 kB``."""
    text = machine.tree.text("/proc/meminfo") or ""
    return {m[1]: int(m[2]) // 1000 for m in re.finditer(r"(?m)^(\w+):\s+(\d+) kB", text)}


def _contiguous(info: dict[str, int]) -> Finding:
    """The CMA pool, in which TensorRT on Orin puts its largest blocks."""
    if "CmaTotal" not in info:
        return Finding(what="cma", verdict="unknown", found="the kernel does not report it",
                       remedy="zcat /proc/config.gz | grep CONFIG_CMA")  # fmt: skip
    total, free = info["CmaTotal"], info.get("CmaFree", 0)
    enough = total >= _CMA_MB
    return Finding(
        what="cma",
        verdict="ok" if enough else "warn",
        found=f"{free} MB free of {total} MB contiguous",
        remedy=""
        if enough
        else "if a build of a large engine fails, add cma=950M to the line "
        "APPEND in /boot/extlinux/extlinux.conf and restart",
    )


def _swap(machine: Machine, info: dict[str, int]) -> Finding:
    """Engines are built out of several copies of the weights; zram takes from the same memory."""
    tree = machine.tree
    zram = [d for d in tree.names("/sys/block", "zram*") if tree.number(f"{d}/disksize")]
    devices = [line.split()[0] for line in (tree.text("/proc/swaps") or "").splitlines()[1:]]
    on_disk = [d for d in devices if "zram" not in d]
    found = f"{info.get('SwapTotal', 0)} MB swap" + (f", {len(zram)} zram devices" if zram else "")
    return Finding(
        what="swap",
        verdict="ok" if on_disk else "warn",
        found=f"{found}, on disk {', '.join(on_disk) or 'none'}",
        remedy=""
        if on_disk
        else "before building engines: sudo systemctl disable --now "
        "nvzramconfig; sudo fallocate -l 8G /var/swap.img; sudo chmod 600 /var/swap.img; "
        "sudo mkswap /var/swap.img; sudo swapon /var/swap.img",
    )


def _desktop(machine: Machine) -> Finding:
    target = machine.tree.target("/etc/systemd/system/default.target") or ""
    graphical = target.endswith("graphical.target")
    return Finding(
        what="desktop",
        verdict="warn" if graphical else "ok",
        found="starts at boot and takes about 800 MB" if graphical else "does not start at boot",
        remedy="sudo systemctl set-default multi-user.target, then restart" if graphical else "",
    )
