"""One loaded nano for all tests, and a small model that does not need its weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgevlm.bundle import Bundle
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from tests.core.tiny import export_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def model(nano: Bundle) -> Iterator[Vlm]:
    """Nano on the CPU; shared, so every test also runs on the cache that others left."""
    with load(nano.root, threads=2, spin=False) as loaded:
        yield loaded
