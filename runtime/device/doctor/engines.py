"""ONNX Runtime and the other engines that pip brings, and the GPUs they were compiled for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from edgevlm.runtime.device.doctor.fatbin import NotReadable, gpu_code, needed_libraries
from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.installed import library
from edgevlm.runtime.device.doctor.machine import Machine

_CPU = "pip install 'edgevlm[cpu]'"
# Source: TensorRT for RTX 1.7, support matrix: Turing, Ampere, Ada and Blackwell RTX cards, GB10.
_RTX_TARGETS = frozenset({75, 86, 89, 120, 121})


def probe(machine: Machine) -> Iterator[Finding]:
    """ONNX Runtime, its providers, and TensorRT for RTX where it is installed."""
    yield _onnxruntime(machine)
    yield from _providers(machine)
    yield from _tensorrt_rtx(machine)


def _onnxruntime(machine: Machine) -> Finding:
    plain, gpu = machine.version("onnxruntime"), machine.version("onnxruntime-gpu")
    if plain and gpu:
        return Finding(
            what="onnxruntime",
            verdict="fail",
            found=f"onnxruntime {plain} and onnxruntime-gpu {gpu} share one module",
            remedy="pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them: "
            "'edgevlm[cpu]' or 'edgevlm[cuda]'",
            needed=True,
        )
    if not plain and not gpu:
        return Finding(
            what="onnxruntime", verdict="fail", found="not installed", remedy=_CPU, needed=True
        )
    name = "onnxruntime" if plain else "onnxruntime-gpu"
    if not machine.tree.live:
        return Finding(what="onnxruntime", verdict="ok", found=f"{name} {plain or gpu}")
    try:
        import onnxruntime
    except Exception as exc:  # a broken wheel fails in many ways; all of them are findings
        return Finding(
            what="onnxruntime",
            verdict="fail",
            found=f"does not import: {exc}",
            remedy=f"pip install --force-reinstall {name}",
            needed=True,
        )
    providers = ", ".join(
        p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()
    )
    return Finding(
        what="onnxruntime", verdict="ok", found=f"{name} {plain or gpu}, providers {providers}"
    )


def _providers(machine: Machine) -> Iterator[Finding]:
    _, folder = machine.dists.get("onnxruntime-gpu", ("", ""))
    if not folder:
        return
    capi = f"{folder}/onnxruntime/capi"
    cuda = f"{capi}/libonnxruntime_providers_cuda.so"
    if machine.tree.exists(cuda):
        yield compiled_for(
            machine, "ort-cuda", cuda,
            "on a Jetson install an onnxruntime-gpu that was built for it (docs/jetson.md), "
            "elsewhere another version; or run on --backend ort-cpu",
        )  # fmt: skip
    tensorrt = f"{capi}/libonnxruntime_providers_tensorrt.so"
    if machine.tree.exists(tensorrt):
        yield _linked(machine, tensorrt)
    elif machine.board.jetson:
        yield Finding(
            what="ort-trt",
            verdict="fail",
            found="this onnxruntime-gpu was built without the TensorRT provider",
            remedy="install an onnxruntime-gpu that was built for this JetPack (docs/jetson.md)",
        )


def compiled_for(machine: Machine, what: str, name: str, remedy: str) -> Finding:
    """Whether a library has code for this machine's GPU."""
    sm = machine.board.sm
    try:
        code = gpu_code(machine.tree.real(name))
    except (NotReadable, OSError) as exc:
        return Finding(
            what=what,
            verdict="unknown",
            found=f"{name} cannot be read: {exc}",
            remedy=f"cuobjdump --list-elf {name}, or install it again",
        )
    if sm is None:
        if machine.board.cards:
            return Finding(
                what=what,
                verdict="unknown",
                found=f"has {code}; {machine.board.cards[0]} is not known here",
                remedy="compare with: nvidia-smi --query-gpu=compute_cap --format=csv",
            )
        return Finding(what=what, verdict="ok", found=f"has {code}; there is no NVIDIA GPU here")
    if code.runs_on(sm):
        return Finding(what=what, verdict="ok", found=f"has {code}; this GPU is sm_{sm}")
    return Finding(
        what=what,
        verdict="fail",
        found=f"no code for this GPU (sm_{sm}): it has {code}",
        remedy=remedy,
    )


def _linked(machine: Machine, name: str) -> Finding:
    """Whether the TensorRT that the provider was linked against is there."""
    try:
        needed = needed_libraries(machine.tree.real(name))
    except (NotReadable, OSError) as exc:
        return Finding(
            what="ort-trt",
            verdict="unknown",
            found=f"{name} cannot be read: {exc}",
            remedy="pip install --force-reinstall onnxruntime-gpu",
        )
    wanted = [n for n in needed if "nvinfer" in n]
    if lost := [n for n in wanted if not _found(machine, n)]:
        return Finding(
            what="ort-trt",
            verdict="fail",
            found=f"the TensorRT provider needs {', '.join(lost)}, which is not here",
            remedy="sudo apt install tensorrt" if machine.board.jetson else _wheel(needed),
        )
    return Finding(what="ort-trt", verdict="ok", found=f"linked with {', '.join(wanted)}")


def _wheel(needed: list[str]) -> str:
    """The wheel of TensorRT that libraries of these names come from."""
    names = " ".join(needed)
    cuda = re.search(r"libcudart\.so\.(\d+)", names)
    tensorrt = re.search(r"libnvinfer\w*\.so\.(\d+)", names)
    if cuda is None or tensorrt is None:
        return "pip install tensorrt"
    return f"pip install 'tensorrt-cu{cuda[1]}>={tensorrt[1]},<{int(tensorrt[1]) + 1}'"


def _found(machine: Machine, soname: str) -> bool:
    """In the loader's folders, or in a wheel of TensorRT."""
    wheels = (f"{p}/tensorrt_libs/{soname}" for p in machine.python.path)
    return bool(library(machine.tree, soname)) or any(map(machine.tree.exists, wheels))


def _tensorrt_rtx(machine: Machine) -> Iterator[Finding]:
    for name in ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu12-libs"):
        version, folder = machine.dists.get(name, ("", ""))
        if not folder:
            continue
        sm = machine.board.sm
        if sm is not None and sm not in _RTX_TARGETS:
            yield Finding(
                what="tensorrt-rtx",
                verdict="fail",
                found=f"{version}, which is for RTX cards and not for this GPU (sm_{sm}); "
                "it compiles engines for them all the same",
                remedy="on a Jetson use its own TensorRT (docs/jetson.md), elsewhere ort-cuda",
            )
            return
        found = compiled_for(
            machine,
            "tensorrt-rtx",
            f"{folder}/tensorrt_rtx_libs/libtensorrt_rtx.so.1",
            "update it: pip install --upgrade 'edgevlm[trt-rtx]'",
        )
        yield replace(found, found=f"{version}, {found.found}")
        return
