"""Tests that need an NVIDIA GPU: ``make test-gpu``. Elsewhere they skip, saying what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.cuda_driver import CudaDevice, cuda_device
from edgevlm.errors import BackendUnavailable
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.load import open_backend
from tests.core.tiny import export_tiny


def without(reason: str) -> NoReturn:
    """Skip; under EDGEVLM_REQUIRE_GPU=1, which ``make test-gpu`` sets, fail."""
    if os.environ.get("EDGEVLM_REQUIRE_GPU") == "1":
        pytest.fail(f"EDGEVLM_REQUIRE_GPU is set and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def gpu() -> CudaDevice:
    """The first GPU."""
    try:
        return cuda_device()
    except BackendUnavailable as exc:
        without(str(exc))


@pytest.fixture
def usable() -> Callable[[str], Backend]:
    """A backend by name; skips where its library is not installed: a GPU need not have them all."""

    def find(name: str) -> Backend:
        try:
            return open_backend(name)
        except BackendUnavailable as exc:
            pytest.skip(str(exc))

    return find


@pytest.fixture(scope="session")
def tiny_fp16(tmp_path_factory: pytest.TempPathFactory, gpu: CudaDevice) -> Bundle:
    """The two-layer text model in half precision, as GPUs want it."""
    assert gpu.memory_bytes
    return export_tiny(tmp_path_factory.mktemp("tiny-fp16"), ExportOptions(precision="fp16"))


@pytest.fixture(scope="session")
def nano_fp16(tmp_path_factory: pytest.TempPathFactory, gpu: CudaDevice) -> Bundle:
    """The built-in model in half precision."""
    assert gpu.memory_bytes
    target = tmp_path_factory.mktemp("bundles") / "nano-fp16"
    export("nano", target, ExportOptions(precision="fp16"))
    return open_bundle(target)
