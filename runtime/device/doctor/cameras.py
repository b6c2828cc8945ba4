"""Cameras: USB and CSI nodes, and what CSI needs besides."""

from __future__ import annotations

from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.machine import Machine
from edgevlm.runtime.device.doctor.video import plugins

_CSI = "vi-output"  # how NVIDIA's capture driver names its nodes


def probe(machine: Machine) -> Iterator[Finding]:
    """Every capture node by its name; the Argus daemon where there are CSI cameras."""
    tree = machine.tree
    found: dict[str, str] = {}
    for folder in tree.names("/sys/class/video4linux", "video*"):
        # Index 0 is the picture; a UVC camera has a second node for its metadata.
        if tree.number(f"{folder}/index") in (None, 0):
            found[folder.rpartition("/")[2]] = tree.text(f"{folder}/name") or "unnamed"
    gone = [node for node in found if not tree.exists(f"/dev/{node}")]
    if not found:
        yield Finding(
            what="cameras",
            verdict="warn",
            found="none",
            remedy="connect one, or stream a file or rtsp://; a CSI camera on a Jetson wants its "
            "overlay: sudo /opt/nvidia/jetson-io/jetson-io.py",
        )
        return
    names = ", ".join(f"/dev/{node} {name}" for node, name in found.items())
    yield Finding(
        what="cameras",
        verdict="warn" if gone else "ok",
        found=names + (f"; no node for {', '.join(gone)}" if gone else ""),
        remedy=f"in a container: --device /dev/{gone[0]}" if gone else "",
    )
    if any(name.startswith(_CSI) for name in found.values()):
        yield _argus(machine)


def _argus(machine: Machine) -> Finding:
    """Raw sensors are debayered by the Argus daemon, which GStreamer reaches by a plugin."""
    tree, path = machine.tree, machine.python.path
    needed = {
        "nvargus-daemon": tree.exists("/usr/sbin/nvargus-daemon"),
        "nvarguscamerasrc": "nvarguscamerasrc" in plugins(machine),
        "gi (in this Python)": any(tree.exists(f"{folder}/gi/__init__.py") for folder in path),
    }
    lost = [name for name, there in needed.items() if not there]
    return Finding(
        what="csi",
        verdict="warn" if lost else "ok",
        found=f"not here: {', '.join(lost)}" if lost else ", ".join(needed),
        remedy="sudo apt install nvidia-l4t-camera nvidia-l4t-gstreamer python3-gi "
        "gir1.2-gst-plugins-base-1.0, in an environment made with --system-site-packages"
        if lost
        else "",
    )
