"""Vision-language checkpoints whose decoder is stored in 4 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.reference.unpacked import load_unpacked
from tests.export import tiny as text
from tests.export.packing import Rounded, pack
from tests.export.vlm import tiny


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rounded]]:
    """SmolVLM with an AWQ decoder, as AutoAWQ leaves the tower alone."""
    folder = tmp_path_factory.mktemp("packed") / "checkpoint"
    tiny.smolvlm(folder)
    return folder, pack(text.Checkpoint(folder, None), "awq", 32, plain="vis")


def test_the_reference_is_the_model_with_its_weights_unpacked(
    packed: tuple[Path, dict[str, Rounded]],
):
    folder, matrices = packed
    model, report = load_unpacked(Checkpoint(folder))
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert len(matrices) == 14
    for module, found in matrices.items():
        assert np.array_equal(model.get_submodule(module).weight.detach().numpy(), found.weight)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_bundle_keeps_its_gates(
    packed: tuple[Path, dict[str, Rounded]], tmp_path: Path, precision: str
):
    bundle = text.export_to(packed[0], tmp_path / "bundle", precision=precision)
    assert bundle.manifest.parity is not None
    assert bundle.manifest.parity.passed
    entry = bundle.manifest.weights["layers.1.mlp.down"]
    assert (entry.bits, entry.block_size) == ((4, 32) if precision == "int4" else (None, None))
