"""Shared fixtures: the built-in model, exported once a session by the real exporter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export

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
def nano(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The int4 nano bundle, as `make demo` exports it."""
    target = tmp_path_factory.mktemp("bundles") / "nano"
    export("nano", target, ExportOptions(calibrate=False))  # minutes otherwise
    return open_bundle(target)


@pytest.fixture(scope="session")
def nano_fp32(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same model unquantised."""
    target = tmp_path_factory.mktemp("bundles") / "nano-fp32"
    export("nano", target, ExportOptions(precision="fp32"))
    return open_bundle(target)


@pytest.fixture(scope="session")
def photograph() -> Callable[[str], Path]:
    """The path of one of scikit-image's bundled photographs, by file name."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return lambda name: folder / name
