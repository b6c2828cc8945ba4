"""Cost sheets of tiny checkpoints, and bundles to hold them against."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from tests.core.tiny import export_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model, its checkpoint beside it; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def checkpoint(tiny: Bundle) -> Path:
    """The folder that it was exported from."""
    return tiny.root.parent / "checkpoint"
