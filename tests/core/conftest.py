"""A small real bundle, and copies of it to damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from tests.core.tiny import export_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copied(tiny: Bundle, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(tiny.root, tmp_path / "bundle"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEVLM_CACHE", str(folder))
    return folder


@pytest.fixture
def flip() -> Callable[..., None]:
    """Turn one bit of a file over, by default in its middle."""

    def change(path: Path, at: int | None = None) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2 if at is None else at] ^= 1
        path.write_bytes(content)

    return change
