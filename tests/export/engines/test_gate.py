"""The compile gate: every family's graphs through TensorRT-RTX's importer and builder, and the
static tables of the boards that are not here.

By default one compute capability a family, in turn; ``make test-all`` has the whole product.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.bundle.engines import Platform
from edgevlm.errors import UnsupportedOperator
from edgevlm.export.targets.operators import check_operators
from edgevlm.export.targets.relower import relower
from edgevlm.export.targets.stored import lower_stored
from tests import oracles
from tests.export.encoders import tiny as encoders
from tests.export.encoders import tiny_sam, tiny_sam_clip
from tests.export.engines.gate import (
    JETPACK_6,
    JETPACK_7,
    RTX,
    compile_all,
    lower_for,
    lowered_bundle,
)
from tests.export.targets.specs import FEATURES, bundle_of, spec_of
from tests.export.vlm import tiny

pytest.importorskip("tensorrt_rtx_libs", reason="needs the extra trt-rtx")

SMS = ("86", "89", "120")
FAMILIES: dict[str, Callable[[Path], object]] = {
    "smolvlm": tiny.smolvlm,
    "idefics3": lambda folder: tiny.smolvlm(folder, 3, "idefics3"),
    "llava_onevision": tiny.llava_onevision,
    "internvl": tiny.internvl,
    "qwen2_vl": tiny.qwen2_vl,
    "qwen2_5_vl": tiny.qwen2_5_vl,
    "qwen3_vl": tiny.qwen3_vl,
    "lfm2_vl": tiny.lfm2_vl,
    "paligemma": tiny.paligemma,
    "florence2": tiny.florence2,
    # Made in a process that can import timm.
    "fast_vlm": lambda folder: oracles.run("tests.export.vlm.tiny", folder, "folded"),
}
ENCODERS: dict[str, Callable[[Path], object]] = {
    "clip": encoders.clip,
    "siglip": encoders.siglip,
    "siglip2": encoders.siglip2,
    "dinov2": encoders.dinov2,
    "dinov2 with registers": lambda folder: encoders.dinov2(folder, registers=True),
    "sam": tiny_sam.sam,
    "sam_clip": tiny_sam_clip.sam_clip,
}
TURNS = {name: SMS[number % 3] for number, name in enumerate(FAMILIES)}


# Idefics3 is lowered as SmolVLM is; timm takes longer to import than FastVLM to compile.
SLOW = ("idefics3", "fast_vlm")
PARAMS = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in FAMILIES]


@pytest.fixture(scope="module", params=PARAMS)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bundle]:
    """One tiny checkpoint, lowered for ONNX Runtime."""
    root = tmp_path_factory.mktemp(request.param)
    FAMILIES[request.param](root / "checkpoint")
    return request.param, lowered_bundle(root / "checkpoint", root)


def test_a_family_compiles(family: tuple[str, Bundle], tmp_path: Path):
    name, bundle = family
    compile_all(lower_for(RTX, bundle, tmp_path / "graphs"), [TURNS[name]], tmp_path)


@pytest.mark.slow
def test_a_family_compiles_for_every_card(family: tuple[str, Bundle], tmp_path: Path):
    compile_all(lower_for(RTX, family[1], tmp_path / "graphs"), SMS, tmp_path)


@pytest.mark.slow
def test_a_familys_older_operators_compile_too(family: tuple[str, Bundle], tmp_path: Path):
    """No evidence for TensorRT 10.3, but every type and shape in them is checked."""
    compile_all(lower_for(JETPACK_6, family[1], tmp_path / "graphs"), ["86"], tmp_path)


def test_a_familys_graphs_are_in_the_tables_of_the_boards(
    family: tuple[str, Bundle], tmp_path: Path
):
    for number, platform in enumerate((JETPACK_6, JETPACK_7)):
        assert lower_for(platform, family[1], tmp_path / str(number))


def test_what_onnx_runtime_takes_is_refused_before_the_hour_on_the_board(
    family: tuple[str, Bundle],
):
    """The gate can fail: the graphs as they lie in the bundle are not for TensorRT."""
    _, bundle = family
    graph = bundle.root / bundle.manifest.graphs["decoder"].file
    for platform in (RTX, JETPACK_6, JETPACK_7):
        with pytest.raises(UnsupportedOperator, match=r"\(and \d+ more\)"):
            check_operators(graph, "decoder", platform)


@pytest.mark.slow
@pytest.mark.parametrize("platform", [RTX, JETPACK_6], ids=lambda p: p.library)
@pytest.mark.parametrize("name", list(ENCODERS))
def test_an_encoder_compiles(tmp_path: Path, name: str, platform: Platform):
    ENCODERS[name](tmp_path / "checkpoint")
    bundle = lowered_bundle(tmp_path / "checkpoint", tmp_path)
    compile_all(lower_for(platform, bundle, tmp_path / "graphs"), ["86"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int4"])
@pytest.mark.parametrize("feature", list(FEATURES))
def test_every_feature_of_a_decoder_compiles_in_every_precision(
    tmp_path: Path, feature: str, precision: str
):
    bundle = bundle_of(spec_of(feature), tmp_path / "bundle")
    (tmp_path / "graphs").mkdir()
    graphs = relower(bundle, "onnx-std", precision, tmp_path / "graphs")
    compile_all(graphs, ["86"], tmp_path)


def test_the_encoder_of_nano_compiles(nano: Bundle, tmp_path: Path):
    graph = lower_stored(nano, "vision", "onnx-std", "fp16", tmp_path)
    check_operators(graph.path, "vision", RTX)
    compile_all({"vision": graph}, ["86"], tmp_path)


@pytest.mark.slow
def test_nano_compiles_for_every_card(nano: Bundle, tmp_path: Path):
    compile_all(lower_for(RTX, nano, tmp_path / "graphs"), SMS, tmp_path)


@pytest.mark.slow
def test_nano_is_in_the_tables_of_the_boards(nano: Bundle, tmp_path: Path):
    for number, platform in enumerate((JETPACK_6, JETPACK_7)):
        assert lower_for(platform, nano, tmp_path / str(number))
