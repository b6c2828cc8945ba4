"""A bundle of heads and an adapter that were drawn by chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano.packages import DECODER
from tests.export.nano.trained import (
    random_heads,
    random_lora,
    write_heads,
    write_lora,
    write_words,
)
from tests.exported import nano_bundle


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the weights."""
    folder = tmp_path_factory.mktemp("weights")
    write_heads(folder, random_heads())
    write_lora(folder, random_lora(GgufFile(DECODER.locate()).spec, layers=2))
    write_words(folder)
    return folder


@pytest.fixture(scope="session")
def drawn(weights: Path) -> Bundle:
    """nano with them, its int4 weights rounded to nearest; read only."""
    return nano_bundle("drawn", ExportOptions(calibrate=False, weights=weights))
