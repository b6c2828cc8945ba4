"""The tables of operators, and that a graph is refused before anything is compiled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from edgevlm.bundle.engines import Platform
from edgevlm.errors import BackendUnavailable, UnsupportedOperator
from edgevlm.export.targets.operators import OperatorTable, check_operators, table_for, tables

JETPACK_6 = Platform(library="tensorrt", version="10.3.0.26", cuda="12.6", sm="87")
JETPACK_7 = Platform(library="tensorrt", version="10.16.2", cuda="13.2", sm="87")
RTX = Platform(library="tensorrt-rtx", version="1.7.1.116", cuda="13", sm="86")
LATEST = "TensorRT 10.15 and later (JetPack 7.2)"
NEW = ("Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter")
EVERY = (JETPACK_6, JETPACK_7, RTX)
STANDARD = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}


def graph(
    path: Path,
    op: str,
    *,
    inputs: int = 1,
    outputs: int = 1,
    opset: int = 20,
    domain: str = "",
    constants: tuple[TensorProto, ...] = (),
    **attributes: Any,
) -> Path:
    """One node, which no runtime needs to understand."""
    names = [f"x{i}" for i in range(inputs - len(constants))] + [c.name for c in constants]
    made = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, made, name=f"/layers.3/{op}", domain=domain, **attributes)

    def values(names: list[str]) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in names]

    fed = [n for n in names if n not in {c.name for c in constants}]
    whole = helper.make_graph([node], "g", values(fed), values(made), list(constants))
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, 1)] if domain else []
    onnx.save(helper.make_model(whole, opset_imports=imports, ir_version=10), path)
    return path


def constant(name: str, value: Any) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


@pytest.mark.parametrize(
    ("platform", "title"),
    [
        (JETPACK_6, "TensorRT 10.3 (JetPack 6)"),
        (JETPACK_6.model_copy(update={"version": "10.7.0"}), "TensorRT 10.3 (JetPack 6)"),
        (JETPACK_6.model_copy(update={"version": "10.13.3.9"}), "TensorRT 10.13 (JetPack 7.0)"),
        (JETPACK_7, LATEST),
        (JETPACK_7.model_copy(update={"version": "11.4"}), LATEST),
        (RTX, "TensorRT-RTX 1.7"),
    ],
)  # fmt: skip
def test_every_version_has_its_table(platform: Platform, title: str):
    assert table_for(platform).title == title
    assert sum(table.covers(platform) for table in tables()) == 1


def test_a_version_before_the_first_table_is_refused():
    with pytest.raises(BackendUnavailable, match=r"tensorrt 8\.6\.2 is too old: TensorRT 10\.3"):
        table_for(JETPACK_6.model_copy(update={"version": "8.6.2"}))


@pytest.mark.parametrize("table", tables(), ids=lambda t: t.title)
def test_a_table_names_real_operators_and_none_twice(table: OperatorTable):
    names = table.operators.split()
    assert set(names) <= STANDARD
    assert len(names) == len(set(names)) > 100
    assert set(names).isdisjoint(table.refused)
    assert set(table.refused) <= STANDARD
    assert {limit.operator for limit in table.limits} <= set(names) | set(table.refused)
    assert all(len(reason) > 15 for reason in table.refused.values())


def test_what_the_importer_of_tensorrt_rtx_takes_is_what_its_table_says():
    """Asked of the real importer, in a process of its own."""
    pytest.importorskip("tensorrt_rtx_libs", reason="needs the extra trt-rtx")
    code = (
        "import json, sys, tensorrt_rtx as trt\n"
        "log = trt.Logger(trt.Logger.ERROR); builder = trt.Builder(log)\n"
        "network = builder.create_network(0); parser = trt.OnnxParser(network, log)\n"
        "print(json.dumps([n for n in json.load(sys.stdin) if parser.supports_operator(n)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(sorted(STANDARD)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    table = table_for(RTX)
    listed, taken = set(table.operators.split()), set(json.loads(done.stdout))
    assert listed <= taken
    # What it takes beyond the table came after opset 24, or needs a plugin it does not have.
    assert taken - listed == {"CausalConvWithState", "LinearAttention", "NonZero"}


@pytest.mark.parametrize("platform", EVERY, ids=lambda p: p.version)
@pytest.mark.parametrize("op", ["MatMul", "Softmax", "Gather", "Conv", "Reshape", "Where"])
def test_plain_operators_go_everywhere(tmp_path: Path, platform: Platform, op: str):
    check_operators(graph(tmp_path / "g.onnx", op), "vision", platform)


@pytest.mark.parametrize(
    "op", ["Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"]
)
def test_what_came_with_10_15_is_refused_before_it_and_the_lowering_named(tmp_path: Path, op: str):
    path = graph(tmp_path / "g.onnx", op)
    check_operators(path, "decoder", JETPACK_7)
    check_operators(path, "decoder", RTX)
    said = rf"decoder: TensorRT 10\.3 .* refuses /layers\.3/{op} \({op}\): .*trt10-compat"
    with pytest.raises(UnsupportedOperator, match=said):
        check_operators(path, "decoder", JETPACK_6)


@pytest.mark.parametrize("platform", EVERY, ids=lambda p: p.version)
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"op": "GroupQueryAttention", "domain": "com.microsoft"}, "operator of com.microsoft"),
        ({"op": "DynamicQuantizeLinear", "outputs": 3}, "dynamic and integer operators are for CP"),
        ({"op": "MatMulInteger", "inputs": 2}, "dynamic and integer operators are for CPUs"),
        ({"op": "Unique"}, "no such operator there"),
        ({"op": "Resize", "antialias": 1}, "resize before the graph, or bake the table"),
        ({"op": "LayerNormalization", "inputs": 3, "outputs": 2}, "only the normalised output"),
        ({"op": "MatMul", "opset": 25}, "opset 25 is newer than 2"),
        (
            {"op": "DequantizeLinear", "inputs": 3, "constants": (constant("zero", [8]),)},
            "a zero point other than 0 is refused",
        ),
        ({"op": "DequantizeLinear", "inputs": 3}, "a zero point other than 0 is refused"),
        (
            {
                "op": "DequantizeLinear", "inputs": 2,
                "constants": (helper.make_tensor("w", TensorProto.UINT4, [2], [1, 2]),),
            },
            "w is UINT4: 4-bit weights are INT4 here",
        ),
    ],
)  # fmt: skip
def test_what_no_tensorrt_takes_is_refused_with_the_reason(
    tmp_path: Path, platform: Platform, made: dict[str, Any], reason: str
):
    with pytest.raises(UnsupportedOperator, match=reason):
        check_operators(graph(tmp_path / "g.onnx", **made), "vision", platform)


@pytest.mark.parametrize("platform", [JETPACK_7, RTX], ids=lambda p: p.version)
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"inputs": 6}, "nonpad_kv_seqlen is dropped without a word"),
        ({"inputs": 4, "outputs": 3}, "only attention nodes with one output"),
        ({"inputs": 4, "is_causal": 1}, "a decode step would see the first key alone"),
    ],
)
def test_attention_that_would_be_misread_is_refused(
    tmp_path: Path, platform: Platform, made: dict[str, Any], reason: str
):
    with pytest.raises(UnsupportedOperator, match=reason):
        check_operators(graph(tmp_path / "g.onnx", "Attention", opset=24, **made), "d", platform)


def test_symmetric_quantisation_is_taken(tmp_path: Path):
    made = {"op": "DequantizeLinear", "inputs": 3, "constants": (constant("zero", [0]),)}
    for platform in EVERY:
        check_operators(graph(tmp_path / "g.onnx", **made), "decoder", platform)


def test_nodes_inside_nodes_are_found_and_all_are_counted(tmp_path: Path):
    bad = [helper.make_node("Unique", ["x"], [f"y{i}"], name=f"/u{i}") for i in range(3)]
    inner = helper.make_graph(
        bad, "inner", [], [helper.make_tensor_value_info("y0", TensorProto.FLOAT, [4])]
    )
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    values = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
    ]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])]
    model = helper.make_model(
        helper.make_graph([node], "g", values, outputs),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(UnsupportedOperator, match=r"/u0 \(Unique\): no such .* \(and 5 more\)"):
        check_operators(tmp_path / "g.onnx", "vision", JETPACK_6)
