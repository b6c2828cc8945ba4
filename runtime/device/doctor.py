"""Findings about this machine, each with its remedy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    ``missing`` means that the default configuration cannot work without it.
    """

    what: str
    status: Literal["ok", "absent", "missing"]
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at Python, processor, engines, codecs and cameras."""
    return [*_machine(), *_engines(), *_codecs(), *_cameras()]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> Iterator[Finding]:
    python = platform.python_version()
    supported = sys.version_info >= (3, 10)
    yield Finding(
        what="python",
        status="ok" if supported else "missing",
        found=f"{python}, {platform.machine()}",
        remedy="" if supported else "edgevlm needs Python 3.10 or newer",
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(what="cpu", status="ok", found=f"{cores} cores, {_instructions()}")


def _instructions() -> str:
    """The instruction sets that int8 and int4 kernels use."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return "instruction sets unknown"
    known = ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
    words = set(text.split())
    found = [name for name in known if name in words]
    return ", ".join(found) or "no dot-product instructions"


def _engines() -> Iterator[Finding]:
    plain, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    if plain and gpu:
        yield Finding(
            what="onnxruntime",
            status="missing",
            found=f"onnxruntime {plain} and onnxruntime-gpu {gpu} share one module",
            remedy="pip uninstall both, then install one: 'edgevlm[cpu]' or 'edgevlm[cuda]'",
        )
        return
    if not plain and not gpu:
        yield Finding(
            what="onnxruntime",
            status="missing",
            found="not installed",
            remedy="pip install 'edgevlm[cpu]'",
        )
        return
    try:
        import onnxruntime
    except Exception as exc:  # a broken wheel fails in many ways; all of them are findings
        yield Finding(
            what="onnxruntime",
            status="missing",
            found=f"does not import: {exc}",
            remedy="pip install --force-reinstall 'edgevlm[cpu]'",
        )
        return
    providers = ", ".join(p.removesuffix("ExecutionProvider") for p in
                          onnxruntime.get_available_providers())  # fmt: skip
    yield Finding(
        what="onnxruntime", status="ok", found=f"{onnxruntime.__version__}, providers {providers}"
    )


def _codecs() -> Iterator[Finding]:
    import av

    decoders = [name for name in ("h264", "hevc", "mjpeg", "vp9", "av1") if _has(name)]
    h264 = "h264" in decoders
    yield Finding(
        what="video",
        status="ok" if h264 else "missing",
        found=f"PyAV {av.__version__}, decodes {', '.join(decoders)}",
        remedy="" if h264 else "pip install --force-reinstall av",
    )
    yield Finding(what="images", status="ok", found=f"Pillow {_version('pillow')}")


def _has(codec: str) -> bool:
    import av

    try:
        av.codec.Codec(codec, "r")
    except ValueError:  # PyAV's UnknownCodecError is one
        return False
    return True


def _cameras() -> Iterator[Finding]:
    devices = sorted(Path("/dev").glob("video*"))
    yield Finding(
        what="cameras",
        status="ok" if devices else "absent",
        found=", ".join(map(str, devices)) or "no /dev/video*",
        remedy="" if devices else "connect a camera, or stream a file or rtsp://",
    )
