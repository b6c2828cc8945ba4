"""Who can decode video and pictures here, in software and in hardware."""

from __future__ import annotations

from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.installed import library, library_folders
from edgevlm.runtime.device.doctor.machine import Machine

_CODECS = ("h264", "hevc", "mjpeg", "vp9", "av1")
_DECODER_NODES = ("/dev/v4l2-nvdec", "/dev/nvhost-nvdec")
# The file of a GStreamer plugin, and the element that it brings.
_PLUGINS = {
    "libgstnvvideo4linux2.so": "nvv4l2decoder",
    "libgstnvvidconv.so": "nvvidconv",
    "libgstnvarguscamerasrc.so": "nvarguscamerasrc",
    "libgstnvcodec.so": "nvh264dec",
}


def probe(machine: Machine) -> Iterator[Finding]:
    """PyAV's decoders on the live machine, Pillow, hardware decoders and GStreamer's plugins."""
    if machine.tree.live:
        yield _software()
    pillow = machine.version("pillow")
    yield Finding(
        what="images",
        verdict="ok" if pillow else "fail",
        found=f"Pillow {pillow}" if pillow else "no Pillow",
        remedy="" if pillow else "pip install pillow",
        needed=not pillow,
    )
    yield _hardware(machine)


def _software() -> Finding:
    import av

    decoders = [name for name in _CODECS if _has(name)]
    h264 = "h264" in decoders
    return Finding(
        what="video",
        verdict="ok" if h264 else "fail",
        found=f"PyAV {av.__version__}, decodes {', '.join(decoders)}",
        remedy="" if h264 else "pip install --force-reinstall av",
        needed=not h264,
    )


def _has(codec: str) -> bool:
    import av

    try:
        av.codec.Codec(codec, "r")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def plugins(machine: Machine) -> list[str]:
    """NVIDIA's GStreamer elements whose plugin lies on the disk."""
    folders = [f"{folder}/gstreamer-1.0" for folder in library_folders(machine.tree)]
    return [
        element
        for file, element in _PLUGINS.items()
        if any(machine.tree.exists(f"{folder}/{file}") for folder in folders)
    ]


def _hardware(machine: Machine) -> Finding:
    board = machine.board
    nodes = [n for n in _DECODER_NODES if machine.tree.exists(n)]
    elements = ", ".join(plugins(machine)) or "none"
    if board.jetson and "nvv4l2decoder" not in elements:
        return Finding(
            what="video-hardware",
            verdict="warn",
            found=f"no GStreamer plugin for the decoder (found: {elements}); video is decoded by "
            "the processor",
            remedy="sudo apt install nvidia-l4t-gstreamer nvidia-l4t-multimedia",
        )
    if board.jetson:
        return Finding(
            what="video-hardware",
            verdict="ok" if nodes else "warn",
            found=f"{nodes[0] if nodes else 'no node of the decoder'}; GStreamer has {elements}",
            remedy=""
            if nodes
            else "sudo apt install nvidia-jetpack; in a container: --runtime nvidia",
        )
    if library(machine.tree, "libnvcuvid.so.1"):
        return Finding(what="video-hardware", verdict="ok",
                       found=f"NVDEC (libnvcuvid); GStreamer has {elements}")  # fmt: skip
    return Finding(what="video-hardware", verdict="ok", found="none; the processor decodes")
