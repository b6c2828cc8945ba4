"""The certificate is measured again from the probe, so a wrong graph or probe shows."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt
from edgevlm.parity import BackendParity, Certificate
from edgevlm.runtime.model.certify import certify
from edgevlm.runtime.model.load import open_backend


def measured(bundle: Bundle) -> BackendParity:
    """The bundle's certificate on the CPU."""
    return certify(bundle, open_backend("ort-cpu", threads=2, spin=False))


@pytest.fixture
def probed(tiny: Bundle, tmp_path: Path) -> Bundle:
    """A copy whose probe may be changed; its files are not hashed again."""
    return Bundle(Path(shutil.copytree(tiny.root, tmp_path / "bundle")), tiny.manifest)


def change(bundle: Bundle, name: str, by: Callable[[np.ndarray], None]) -> None:
    """Change one array of the probe in place."""
    path = bundle.root / "probe" / f"{name}.npy"
    path.chmod(0o644)
    value = np.load(path)
    by(value)
    np.save(path, value)


def test_nano_keeps_its_gates_and_reports_every_stage(nano: Bundle):
    found = measured(nano)
    assert found.misses == ()
    assert found.backend == "ort-cpu"
    assert {s.stage for s in found.stages} == {
        "vision.visual_tokens", "vision.features", "vision.class_logits",
        "vision.class_probabilities", "vision.patches",
    }  # fmt: skip
    assert found.greedy is not None
    assert found.greedy.steps == 32


def test_measuring_again_gives_the_stored_certificate(tiny: Bundle):
    stored = Certificate.model_validate_json(tiny.read_text("parity.json"))
    assert measured(tiny).misses == stored.backends[0].misses == ()
    assert tiny.manifest.parity is not None
    assert tiny.manifest.parity.passed


def test_logits_that_differ_from_the_stored_ones_miss_the_gate(probed: Bundle):
    def shift(logits: np.ndarray) -> None:
        logits[3, 17] += 0.01

    change(probed, "logits", shift)
    found = measured(probed)
    assert found.misses == ("logits",)
    assert found.logits is not None
    assert found.logits.max_abs == pytest.approx(0.01, rel=0.05)


def test_a_greedy_token_that_differs_where_the_reference_was_sure_misses_the_gate(probed: Bundle):
    def another(tokens: np.ndarray) -> None:
        tokens[-1] = (tokens[-1] + 1) % 250  # the last one feeds no further step

    change(probed, "tokens", another)
    change(probed, "gaps", lambda gaps: gaps.__setitem__(-1, 100.0))
    found = measured(probed)
    assert found.misses == ("greedy",)
    assert found.greedy is not None
    assert (found.greedy.agreed, found.greedy.decisive_misses) == (31, 1)


def test_a_vision_output_that_differs_misses_its_gate_by_name(nano: Bundle, tmp_path: Path):
    (tmp_path / "probe").mkdir()
    for path in nano.root.rglob("*"):
        if path.is_file() and path.parent.name != "LICENSES":
            link = tmp_path / path.relative_to(nano.root)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path)
    target = tmp_path / "probe" / "vision.features.npy"
    features = np.load(target)
    target.unlink()
    np.save(target, features[:, ::-1])
    assert measured(Bundle(tmp_path, nano.manifest)).misses == ("vision.features",)


@pytest.mark.parametrize("name", ["before", "after", "tokens", "gaps", "logits"])
def test_a_missing_probe_is_named(probed: Bundle, name: str):
    (probed.root / "probe" / f"{name}.npy").unlink()
    with pytest.raises(BundleCorrupt, match=rf"probe/{name}\.npy is missing or damaged"):
        measured(probed)


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_probe_is_refused_and_not_loaded(probed: Bundle, tmp_path: Path):
    for content in (pickle.dumps(Bomb(tmp_path / "exploded")), b"\x93NUMPY", b""):
        (probed.root / "probe" / "logits.npy").write_bytes(content)
        with pytest.raises(BundleCorrupt, match=r"logits\.npy is missing or damaged"):
            measured(probed)
    np.save(probed.root / "probe" / "logits.npy", np.array([Bomb(tmp_path / "exploded")]))
    with pytest.raises(BundleCorrupt, match=r"logits\.npy is missing or damaged"):
        measured(probed)
    assert not (tmp_path / "exploded").exists()


def test_the_exporters_child_prints_the_certificate_as_json(tiny: Bundle):
    done = subprocess.run(
        [sys.executable, "-m", "edgevlm.runtime.model.certify", str(tiny.root)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = Certificate.model_validate(json.loads(done.stdout))
    assert printed.passed
    assert printed.precision == "fp32"
