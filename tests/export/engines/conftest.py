"""One small bundle for all builds."""

from __future__ import annotations

import pytest

from edgevlm.bundle import Bundle
from tests.core.tiny import export_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A two-layer text model; read only."""
    return export_tiny(tmp_path_factory.mktemp("tiny"))
