"""ONNX Runtime's TensorRT provider: what it is asked, and what is made of its answers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.engines import Platform
from edgevlm.errors import BackendUnavailable, BuildError, BuildMemoryError, UnsupportedOperator
from edgevlm.export.engines.build import BuildOptions, build
from edgevlm.export.engines.child import compile_graph
from edgevlm.export.engines.job import CompileJob, Device
from edgevlm.export.engines.ort_context import provider_options
from edgevlm.export.engines.profiles import profiles_of
from edgevlm.export.engines.target import parse_target
from edgevlm.export.targets.operators import table_for
from edgevlm.export.targets.relower import TargetGraph
from tests.export.engines.graphs import lower

ROOT = Path(__file__).parent.parent.parent.parent
CARD = Device(sm="86", name="RTX 3060", cuda="12.8")


@pytest.fixture(scope="module")
def rows(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> TargetGraph:
    return lower(tiny, "trt10-compat", None, tmp_path_factory.mktemp("graphs"))["rows"]


def job(rows: TargetGraph, folder: Path, double: str, **changes: Any) -> CompileJob:
    made = CompileJob(
        library="onnxruntime", module=f"tests.export.engines.doubles:{double}", device=CARD,
        name="rows", graph=str(rows.path), engine=str(folder / "rows.onnx"), workspace_mib=512,
        level=2, profiles=profiles_of(rows.inputs, rows.ranges),
        timing_cache=str(folder / "timing"),
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_the_provider_is_told_shapes_limits_and_where_to_write(rows: TargetGraph, tmp_path: Path):
    found = compile_graph(job(rows, tmp_path, "ORT"))
    (node,) = onnx.load(str(tmp_path / "rows.onnx")).graph.node
    chosen = json.loads(helper.get_node_attr_value(node, "ep_cache_context"))
    assert chosen == provider_options(job(rows, tmp_path, "ORT"))
    assert chosen["trt_profile_min_shapes"] == "x:1x64"
    assert chosen["trt_profile_max_shapes"] == "x:8x64"
    assert chosen["trt_max_workspace_size"] == str(512 << 20)
    assert chosen["trt_ep_context_embed_mode"] == "1"
    assert [(t.name, t.dtype, t.shape) for t in found.inputs] == [("x", "float32", ("axis_0", 64))]
    assert found.platform == Platform(
        library="onnxruntime", version="1.31.1", cuda="12.8", sm="86", device="RTX 3060"
    )


def test_fixed_shapes_need_no_profile(rows: TargetGraph, tmp_path: Path):
    chosen = provider_options(job(rows, tmp_path, "ORT", profiles=(), timing_cache=None))
    assert not [name for name in chosen if "profile" in name or "timing" in name]


@pytest.mark.parametrize(
    ("double", "kind", "said"),
    [
        ("ORT_WITHOUT", BackendUnavailable, r"no TensorrtExecutionProvider \(it has CUDAExecution"),
        ("ORT_MEMORY", BuildMemoryError, "rows: out of memory during the build"),
        ("ORT_FAILS", BuildError, "rows: the compiler gives no engine: .*failed to create engine"),
        ("ORT_LEAVES", UnsupportedOperator, r"leaves 1 nodes to ONNX Runtime, first /proj/MatMul"),
        ("ORT_SILENT", BuildError, "rows: the provider wrote no context model"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named(
    rows: TargetGraph, tmp_path: Path, double: str, kind: type[Exception], said: str
):
    with pytest.raises(kind, match=said) as caught:
        compile_graph(job(rows, tmp_path, double))
    assert type(caught.value) is kind


def test_the_onnx_runtime_of_this_machine_says_what_it_lacks(rows: TargetGraph, tmp_path: Path):
    import onnxruntime

    if "TensorrtExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("it has the provider")
    with pytest.raises(BackendUnavailable, match=r"\(it has .*CPUExecutionProvider\): pip install"):
        compile_graph(job(rows, tmp_path, "ORT", module="onnxruntime"))


@pytest.mark.usefixtures("one_process")
def test_context_models_go_into_the_bundle(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    root = Path(shutil.copytree(tiny.root, tmp_path / "bundle"))
    target = dataclasses.replace(parse_target("ort-trt"), module="tests.export.engines.doubles:ORT")

    def rows_only(*arguments: Any) -> dict[str, TargetGraph]:
        graph = lower(*arguments)["rows"]
        return {"decoder": dataclasses.replace(graph, name="decoder")}

    build(root, target, BuildOptions(device=CARD, measure=False), lower=rows_only)
    made = open_bundle(root, "always").manifest.engines["ort-trt"]
    assert made.parity.backend == "ort-trt"
    assert made.graphs["decoder"].file.startswith("engines/ort-trt/decoder-")
    assert made.graphs["decoder"].file.endswith(".onnx")
    assert made.graphs["decoder"].key.lowering == "trt10-compat"


def test_its_graphs_are_checked_as_the_oldest_tensorrt_takes_them():
    platform = Platform(library="onnxruntime", version="1.31.1", cuda="12.8", sm="86")
    assert table_for(platform).title == "TensorRT 10.3 (JetPack 6)"
