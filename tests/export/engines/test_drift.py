"""Engines of graphs that are not their source model's: written only when the user says so."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import ParityError
from edgevlm.export.engines.build import BuildOptions, Built, build
from edgevlm.export.engines.job import Device
from edgevlm.export.engines.target import parse_target
from edgevlm.export.targets.relower import relower
from edgevlm.export.targets.target_graph import TargetGraph

Build = Callable[..., Built]
ROOT = Path(__file__).parent.parent.parent.parent


def scaled(factor: float) -> Callable[..., dict[str, TargetGraph]]:
    """A lowering that gets the last norm wrong by a factor."""

    def lower(*arguments: Any) -> dict[str, TargetGraph]:
        graphs = relower(*arguments)
        path = graphs["decoder"].path
        model = onnx.load(str(path))
        (norm,) = (t for t in model.graph.initializer if t.name == "norm")
        wrong = (numpy_helper.to_array(norm) * factor).astype(np.float32)
        norm.CopyFrom(numpy_helper.from_array(wrong, norm.name))
        (path.parent / f"{path.name}.data").unlink()
        onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
        return graphs

    return lower


@pytest.fixture
def bundle(tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a bundle, and a cache of its own."""
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return Path(shutil.copytree(tiny.root, tmp_path / "bundle"))


@pytest.fixture
def made(bundle: Path, one_process: None) -> Build:  # noqa: ARG001
    """Build through a lowering that is wrong by ``factor``, measured on the CPU."""
    module = "tests.export.engines.doubles:JETPACK_7"
    target = dataclasses.replace(parse_target("trt"), module=module)

    def run(factor: float, **options: Any) -> Built:
        device = Device(sm="87", name="Orin", cuda="13.2")
        return build(bundle, target, BuildOptions(device=device, **options), lower=scaled(factor))

    return run


def test_graphs_below_a_gate_leave_engines_only_where_drift_is_allowed(made: Build, bundle: Path):
    missed = (
        r"bundle: engines for trt are not written: parity gates missed \(ort-cpu: logits.*; "
        r"try another --precision, or accept it with --allow-drift$"
    )
    with pytest.raises(ParityError, match=missed):
        made(-1.0)
    assert not open_bundle(bundle).manifest.engines
    assert not (bundle / "engines").exists()
    engines = made(-1.0, allow_drift=True).manifest.engines["trt"]
    assert "logits" in engines.misses  # which every event of a stream on them says


def test_values_that_are_no_numbers_are_never_allowed(made: Build, bundle: Path):
    with pytest.raises(ParityError, match=r"some values are not finite; try another --precision$"):
        made(float("nan"), allow_drift=True)
    assert not (bundle / "engines").exists()


def test_graphs_that_keep_their_gates_need_no_permission(made: Build):
    engines = made(1.0).manifest.engines["trt"]
    assert engines.lowered is not None
    assert engines.lowered.logits is not None
    assert not engines.misses
