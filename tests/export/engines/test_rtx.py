"""TensorRT-RTX, the real one, compiling ahead of time on a machine without a GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import BuildError, UnsupportedOperator
from edgevlm.export.engines.build import BuildOptions, build
from edgevlm.export.engines.job import CompileJob, Device
from edgevlm.export.engines.process import run_job
from edgevlm.export.engines.target import parse_target
from tests.export.engines.graphs import lower

pytest.importorskip("tensorrt_rtx_libs", reason="needs the extra trt-rtx")


def test_a_bundle_gets_engines_for_a_card_that_is_not_here(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))
    root = Path(shutil.copytree(tiny.root, tmp_path / "bundle"))
    said: list[str] = []
    done = build(
        root,
        parse_target("trt-rtx:sm86"),
        BuildOptions(measure=False),
        report=lambda *step: said.append(step[2]),
        lower=lower,
    )
    opened = open_bundle(root, "always")
    assert opened.id == tiny.id
    made = opened.manifest.engines["trt-rtx:sm86"]
    assert made.built == "ahead-of-time"
    decoder = made.graphs["decoder"]
    assert decoder.key.platform.library == "tensorrt-rtx"
    assert (decoder.key.platform.sm, decoder.key.platform.device) == ("86", None)
    assert decoder.key.platform.cuda == "13"
    assert done.compiled["decoder"].peak_mib > 50
    assert (root / decoder.file).stat().st_size > 10_000
    assert said[0] == "lowering rows"
    assert "decoder: building engine" in said


def job(path: Path, **changes: Any) -> CompileJob:
    return CompileJob(
        library="tensorrt-rtx", module="tensorrt_rtx", name="vision", graph=str(path),
        engine=str(path.with_suffix(".engine")), device=Device(sm="86"), workspace_mib=256,
        level=3, **changes,
    )  # fmt: skip


def save(path: Path, nodes: list[Any], inputs: list[Any], domain: str = "") -> Path:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    whole = helper.make_graph(nodes, "g", inputs, [output], [weight])
    imports = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(whole, opset_imports=imports, ir_version=10), path)
    return path


def test_a_node_that_it_refuses_is_named(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
    node = helper.make_node("Splat", ["x", "w"], ["y"], name="/blocks.7/splat", domain="acme")
    path = save(tmp_path / "g.onnx", [node], [x], "acme")
    with pytest.raises(UnsupportedOperator, match=r"vision: /blocks\.7/splat \(Splat\) is refused"):
        run_job(job(path), lambda _doing: None)


def test_an_input_that_its_parser_drops_is_noticed(tmp_path: Path):
    """``nonpad_kv_seqlen`` has no consumer after parsing: the reason why a mask is explicit."""
    shapes = {"q": [1, 2, 1, 8], "k": [1, 2, 16, 8], "v": [1, 2, 16, 8]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    inputs.append(helper.make_tensor_value_info("length", TensorProto.INT64, [1]))
    node = helper.make_node("Attention", ["q", "k", "v", "", "", "", "length"], ["y"], name="/att")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 1, 8])
    whole = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(BuildError, match="the parser dropped length: nothing reads it any more"):
        run_job(job(tmp_path / "g.onnx"), lambda _doing: None)


def test_a_truncated_graph_is_refused(tmp_path: Path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
    path = save(tmp_path / "g.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [x])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BuildError, match=r"vision: "):
        run_job(job(path), lambda _doing: None)
