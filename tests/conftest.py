"""Shared fixtures: the built-in model, exported once a session by the real exporter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from edgevlm.bundle import Bundle
from edgevlm.export.model_parts import ExportOptions
from tests.exported import nano_bundle

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never touch the user's cache."""
    os.environ["EDGEVLM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def missing(reason: str) -> NoReturn:
    """Skip, naming the Debian package; under EDGEVLM_REQUIRE_ALL=1 fail instead."""
    if os.environ.get("EDGEVLM_REQUIRE_ALL") == "1":
        pytest.fail(f"EDGEVLM_REQUIRE_ALL is set and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def nano() -> Bundle:
    """The int4 nano bundle, as `make demo` exports it, but rounded to nearest; read only."""
    return nano_bundle("int4", ExportOptions(calibrate=False))  # calibration takes minutes


@pytest.fixture(scope="session")
def nano_fp32() -> Bundle:
    """The same model unquantised; read only."""
    return nano_bundle("fp32", ExportOptions(precision="fp32"))


@pytest.fixture(scope="session")
def photograph() -> Callable[[str], Path]:
    """The path of one of scikit-image's bundled photographs, by file name."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return lambda name: folder / name
