"""CUDA, its bindings, cuDNN and TensorRT, and whether this Python sees TensorRT."""

from __future__ import annotations

import json
from collections.abc import Iterator

from edgevlm.runtime.device.doctor.finding import Finding
from edgevlm.runtime.device.doctor.installed import library_version, newest, package_version
from edgevlm.runtime.device.doctor.machine import Machine

_APT = "sudo apt install tensorrt python3-libnvinfer"


def probe(machine: Machine) -> Iterator[Finding]:
    """Versions, and the module `tensorrt`; nothing on a machine that has none and no Jetson."""
    cuda, cudnn, tensorrt = _cuda(machine), _cudnn(machine), _tensorrt(machine)
    jetson = machine.board.jetson
    if not jetson and not (cuda or cudnn or tensorrt):
        return
    for what, version, package in (
        ("cuda", cuda, "sudo apt install nvidia-cuda"),
        ("cudnn", cudnn, "sudo apt install nvidia-cudnn"),
    ):
        lost = jetson and not version
        yield Finding(
            what=what,
            verdict="warn" if lost else "ok",
            found=version or "not installed",
            remedy=package if lost else "",
        )
    yield from _bindings(machine, cuda)
    yield _version(machine, tensorrt)
    if tensorrt:
        yield _module(machine)


def _bindings(machine: Machine, cuda: str) -> Iterator[Finding]:
    """Whether cuda-bindings, where they are installed, are of the CUDA that is here."""
    version, major = machine.version("cuda-bindings"), cuda.split(".")[0]
    if not version:
        return
    fits = not major or version.split(".")[0] == major
    yield Finding(
        what="cuda-bindings",
        verdict="ok" if fits else "warn",
        found=version if fits else f"{version}, and CUDA is {cuda}",
        remedy="" if fits else f"pip install 'cuda-bindings=={major}.*'",
    )


def _version(machine: Machine, version: str) -> Finding:
    if not version:
        if not machine.board.jetson:
            return Finding(what="tensorrt", verdict="ok", found="not installed")
        return Finding(what="tensorrt", verdict="warn", found="not installed", remedy=_APT)
    if machine.board.jetson and int(version.split(".")[0]) >= 11:
        # TensorRT 11.2 and later, release notes: JetPack stays on 10.x.
        return Finding(what="tensorrt", verdict="fail", found=f"{version}, not made for JetPack",
                       remedy=f"pip uninstall -y tensorrt; {_APT}")  # fmt: skip
    return Finding(what="tensorrt", verdict="ok", found=version)


def _cuda(machine: Machine) -> str:
    """From the toolkit's version file, else from the runtime's package or library."""
    try:
        said = json.loads(machine.tree.text("/usr/local/cuda/version.json") or "{}")
        toolkit = str(said.get("cuda", {}).get("version", ""))
    except (ValueError, AttributeError):
        toolkit = ""
    package = package_version(machine.debs, r"cuda-cudart-\d+-\d+")
    return toolkit or package or library_version(machine.tree, "libcudart")


def _cudnn(machine: Machine) -> str:
    package = package_version(machine.debs, r"libcudnn\d+(-cuda-\d+)?")
    return package or library_version(machine.tree, "libcudnn")


def _tensorrt(machine: Machine) -> str:
    """The system's: ``libnvinfer10 10.3.0.30-1+cuda12.5``; else that of a wheel."""
    package = package_version(machine.debs, r"libnvinfer\d+")
    wheels = map(machine.version, ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"))
    return package or library_version(machine.tree, "libnvinfer") or newest(filter(None, wheels))


def _module(machine: Machine) -> Finding:
    """Whether ``import tensorrt`` works in this interpreter, or why it cannot."""
    tree, python = machine.tree, machine.python
    if any(tree.exists(f"{folder}/tensorrt/__init__.py") for folder in python.path):
        return _imported() if tree.live else Finding(
            what="tensorrt-python", verdict="ok", found=f"on the path of Python {python.minor}"
        )  # fmt: skip
    made_for = [
        name.split("/")[3].removeprefix("python")
        for name in tree.names("/usr/lib", "python3*")
        if tree.exists(f"{name}/dist-packages/tensorrt/__init__.py")
    ]
    if not made_for:
        return Finding(what="tensorrt-python", verdict="warn", found="no Python module",
                       remedy="sudo apt install python3-libnvinfer")  # fmt: skip
    if python.minor not in made_for and "3" not in made_for:
        return Finding(
            what="tensorrt-python",
            verdict="warn",
            found=f"it is for Python {', '.join(made_for)}, and this is {python.minor}",
            remedy=f"make the environment with that one: "
            f"/usr/bin/python{made_for[0]} -m venv --system-site-packages .venv",
        )
    return Finding(
        what="tensorrt-python",
        verdict="warn",
        found=f"{python.prefix} does not see the system's packages",
        remedy=f"/usr/bin/python3 -m venv --system-site-packages --upgrade {python.prefix}",
    )


def _imported() -> Finding:
    try:
        import tensorrt
    except Exception as exc:  # a library of the board that is missing in a container, for one
        return Finding(
            what="tensorrt-python",
            verdict="fail",
            found=f"does not import: {exc}",
            remedy="install what it names; in a container, mount the host's libraries "
            "(`--runtime nvidia`)",
        )
    return Finding(what="tensorrt-python", verdict="ok", found=f"imports, {tensorrt.__version__}")
