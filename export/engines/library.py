"""The compiler's Python module: found, imported, and asked for its version."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from typing import Any

from edgevlm.bundle.engines import Library
from edgevlm.errors import BackendUnavailable

REMEDIES: dict[Library, str] = {
    "tensorrt": (
        "on a Jetson: sudo apt install python3-libnvinfer, in a virtual environment made with "
        "--system-site-packages; on a desktop: pip install 'tensorrt-cu12>=10.3,<11'"
    ),
    "tensorrt-rtx": "pip install 'edgevlm[trt-rtx]' (x86-64 Linux or Windows)",
    "onnxruntime": "pip install 'edgevlm[cuda]' (x86-64, with TensorRT 10's libraries)",
}
OLDEST = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 4)}


def check_installed(library: Library, module: str) -> None:
    """Refuse early, without importing anything.

    Raises:
        BackendUnavailable: the module is not on this machine.
    """
    if importlib.util.find_spec(module.partition(":")[0]) is None:
        raise BackendUnavailable(f"{library} is not on this machine: {REMEDIES[library]}")


def import_library(library: Library, module: str) -> Any:
    """The module with the compiler's API.

    Args:
        library: whose API it is.
        module: its name, or ``module:attribute`` for what stands for it.

    Raises:
        BackendUnavailable: not installed, one of its libraries is missing, or too old.
    """
    check_installed(library, module)
    try:
        place, _, attribute = module.partition(":")
        found = importlib.import_module(place)
        found = getattr(found, attribute) if attribute else found
    except (ImportError, OSError) as exc:
        # A container made for another JetPack lacks libraries of the host: say which.
        raise BackendUnavailable(
            f"{library} is installed but does not load ({exc}): {REMEDIES[library]}"
        ) from exc
    version = str(found.__version__)
    oldest = OLDEST.get(library, (0, 0))
    if numbers(version)[:2] < oldest:
        raise BackendUnavailable(
            f"{library} {version} is too old: {oldest[0]}.{oldest[1]} or later, which JetPack 6.1 "
            "and later have"
        )
    return found


def numbers(version: str) -> tuple[int, ...]:
    """``10.3.0.26`` as a tuple; what is no number ends it."""
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def cuda_of_wheel(module: str) -> str:
    """The CUDA major version in the name of the package that brought ``module``.

    Raises:
        BackendUnavailable: the package's name does not say.
    """
    packages = importlib.metadata.packages_distributions().get(module, [])
    for package in packages:
        if found := re.search(r"cu([0-9]+)$", package):
            return found[1]
    raise BackendUnavailable(
        f"{module} comes from {packages or 'no package'}, whose name has no CUDA version"
    )
