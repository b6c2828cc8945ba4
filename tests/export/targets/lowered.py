"""A bundle's graphs lowered for an engine, in float32, and run by ONNX Runtime instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.export.targets.as_bundle import measure, with_graphs
from edgevlm.export.targets.relower import relower
from edgevlm.parity import BackendParity
from edgevlm.runtime.model.load import load
from tests.export.vlm import STEPS
from tests.export.vlm.bundle_answers import with_pictures


def relowered(bundle: Bundle, lowering: StaticLowering, folder: Path) -> Bundle:
    """The bundle with its graphs lowered again."""
    (folder / "graphs").mkdir()
    graphs = relower(bundle, lowering, "fp32", folder / "graphs")
    assert graphs.keys() == bundle.manifest.graphs.keys()
    with_graphs(bundle, graphs, folder / "lowered")
    return open_bundle(folder / "lowered", "always")


def answers(root: Path, asked: Path, lowering: StaticLowering, folder: Path) -> list[np.ndarray]:
    """What the lowered graphs of ``root / "bundle"`` say to the conversations in ``asked``."""
    made = relowered(open_bundle(root / "bundle"), lowering, folder)
    cases = json.loads(asked.read_text())
    with load(made.root, threads=2, spin=False) as model:
        return [
            np.array(model.ask(messages=with_pictures(case), max_tokens=STEPS).token_ids)
            for case in cases
        ]


def certified(root: Path, lowering: StaticLowering, folder: Path) -> BackendParity:
    """The lowered graphs of a bundle against its stored probe."""
    bundle = open_bundle(root)
    found = measure(bundle, relower(bundle, lowering, "fp32", folder))
    (measured,) = [b for b in found.backends if b.status == "measured"]
    return measured
