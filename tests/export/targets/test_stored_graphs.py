"""Stored graphs rewritten: ONNX Runtime gives the same before and behind, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevlm.bundle import Bundle
from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.manifest import GraphEntry
from edgevlm.bundle.provenance import FileEntry
from edgevlm.errors import ExportError
from edgevlm.export.graph import MS, DataFile, GraphBuilder
from edgevlm.export.quantize import quantize_asymmetric, quantize_symmetric
from edgevlm.export.targets.contrib import CONTRIB
from edgevlm.export.targets.element_types import PRODUCTS
from edgevlm.export.targets.fuse import fuse_attention, write_attention
from edgevlm.export.targets.rewrite import Rewriter
from edgevlm.export.targets.stored_graph import StoredGraph
from edgevlm.export.targets.typed import TypedProducts
from edgevlm.tensors import Array
from tests.export.targets.specs import bundle_of, spec_of

RANDOM = np.random.default_rng(3)
WIDTH, OUT = 64, 48
X = RANDOM.normal(0, 1, (2, 5, WIDTH)).astype(np.float32)
MATRIX = RANDOM.normal(0, 0.2, (OUT, WIDTH)).astype(np.float32)
Nodes = tuple[list[onnx.NodeProto], dict[str, Array]]


def node(op: str, inputs: list[str], *outputs: str, domain: str = MS, **more: Any) -> Any:
    name = f"/{op.lower()}/{op}"
    return helper.make_node(op, inputs, outputs or ("y",), name=name, domain=domain, **more)


def blocks(bits: int, *, zeros: bool) -> Nodes:
    made = quantize_asymmetric(MATRIX, bits) if zeros else quantize_symmetric(MATRIX, bits)
    weights = {"b": made.packed_values(), "s": made.scales}
    inputs = ["x", "b", "s"]
    packed = made.packed_zeros()
    if packed is not None:
        weights["z"] = packed
        inputs.append("z")
    how = {"K": WIDTH, "N": OUT, "bits": bits, "block_size": 32, "accuracy_level": 0}
    return [node("MatMulNBits", inputs, **how)], weights


def ones(width: int = WIDTH) -> Array:
    return RANDOM.uniform(0.5, 1.5, width).astype(np.float32)


CASES: dict[str, Callable[[], Nodes]] = {
    "4-bit blocks": lambda: blocks(4, zeros=False),
    "4-bit blocks with zero points": lambda: blocks(4, zeros=True),
    "8-bit blocks": lambda: blocks(8, zeros=False),
    "QuickGelu": lambda: ([node("QuickGelu", ["x"], alpha=1.702)], {}),
    "SiLU as QuickGelu": lambda: ([node("QuickGelu", ["x"], alpha=1.0)], {}),
    "contrib Gelu": lambda: ([node("Gelu", ["x"])], {}),
    "FastGelu with a bias": lambda: ([node("FastGelu", ["x", "b"])], {"b": ones()}),
    "BiasGelu": lambda: ([node("BiasGelu", ["x", "b"])], {"b": ones()}),
    "RMSNorm": lambda: (
        [node("SimplifiedLayerNormalization", ["x", "w"], domain="", axis=-1, epsilon=1e-5)],
        {"w": ones()},
    ),
    "RMSNorm of a sum, and the sum": lambda: (
        [
            node("Neg", ["x"], "skip", domain=""),
            node("Mul", ["skip", "skip"], "more", domain=""),
            node(
                "SkipSimplifiedLayerNormalization", ["x", "more", "w", "b"], "n", "", "", "sum",
                epsilon=1e-6,
            ),
            node("Add", ["n", "sum"], domain=""),
        ],
        {"w": ones(), "b": ones()},
    ),
    "LayerNorm of a sum": lambda: (
        [
            node("Abs", ["x"], "skip", domain=""),
            node("SkipLayerNormalization", ["x", "skip", "w", "b", "c"], epsilon=1e-5),
        ],
        {"w": ones(), "b": ones(), "c": ones()},
    ),
    "Gemm": lambda: (
        [
            node("Reshape", ["x", "shape"], "flat", domain=""),
            node("Gemm", ["flat", "w", "b"], domain="", transB=1),
        ],
        {"shape": np.array([-1, WIDTH], np.int64), "w": MATRIX, "b": ones(OUT)},
    ),
    "a stored product in half precision": lambda: (
        [
            node("Cast", ["x"], "narrow", domain="", to=TensorProto.FLOAT16),
            node("MatMul", ["narrow", "w"], "half", domain=""),
            helper.make_node("Cast", ["half"], ["y"], name="/wide/Cast", to=TensorProto.FLOAT),
        ],
        {"w": MATRIX.T.astype(np.float16)},
    ),
    "a constant, and a product of two values": lambda: (
        [
            node("Constant", [], "c", domain="", value=numpy_helper.from_array(ones())),
            node("Mul", ["x", "c"], "m", domain=""),
            node("Transpose", ["m"], "t", domain="", perm=[0, 2, 1]),
            node("MatMul", ["x", "t"], domain=""),
        ],
        {},
    ),
    "a convolution": lambda: (
        [
            node("Unsqueeze", ["x", "axis"], "image", domain=""),
            node("Conv", ["image", "w", "b"], domain="", strides=[1, 2]),
        ],
        {"axis": np.array([1], np.int64), "b": ones(3),
         "w": RANDOM.normal(0, 0.2, (3, 1, 2, 2)).astype(np.float32)},
    ),
    "an angle": lambda: (
        [
            node("MatMul", ["x", "w"], "angle", domain=""),
            node("Sin", ["angle"], domain=""),
        ],
        {"w": 100 * MATRIX.T},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle to put graphs into."""
    return bundle_of(spec_of("llama"), tmp_path_factory.mktemp("host") / "bundle")


def stored(host: Bundle, nodes: Nodes, name: str, opset: int = 20) -> StoredGraph:
    """The nodes as a graph of the bundle, weights beside it: ``x`` in, ``y`` out."""
    made, weights = nodes
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        made, "g", [value("x", TensorProto.FLOAT, ["batch", "rows", WIDTH])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(w), n) for n, w in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    file = f"{name}.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=imports, ir_version=10), host.root / file,
        save_as_external_data=True, location=f"{file}.data", size_threshold=200,
    )  # fmt: skip
    files = {n: FileEntry(size=1, sha256="0" * 64) for n in (file, f"{file}.data")}
    manifest = host.manifest.model_copy(update={"files": files})
    entry = GraphEntry(
        file=file, lowering="onnx", opset=opset, precision="fp32",
        inputs=(TensorEntry(name="x", dtype="float32", shape=("batch", "rows", WIDTH)),),
        outputs=(TensorEntry(name="y", dtype="float32", shape=("batch", "rows", "columns")),),
    )  # fmt: skip
    return StoredGraph(Bundle(host.root, manifest), entry)


def rewritten(
    graph: StoredGraph, folder: Path, precision: str, rules: Any = CONTRIB, opset: int = 20
) -> Path:
    path = folder / f"{precision}.onnx"
    with DataFile(folder / f"{path.name}.data") as data:
        made = GraphBuilder("g", data, opset)
        for tensor in graph.entry.inputs:
            made.input(tensor.name, tensor.dtype, tensor.shape)
        products = TypedProducts(made, PRODUCTS[precision])
        Rewriter(graph, made, products, rules).run(graph.entry.outputs)
        made.save(path)
    return path


def run(path: Path) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": X})[0])


@pytest.mark.parametrize("case", list(CASES))
def test_a_rewritten_graph_gives_what_it_gave(host: Bundle, tmp_path: Path, case: str):
    graph = stored(host, CASES[case](), case.replace(" ", "-"))
    expected = run(host.root / graph.entry.file)
    half = "half" in case
    found = run(rewritten(graph, tmp_path, "fp32"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 if half else 2e-5)
    near = run(rewritten(graph, tmp_path, "fp16"))
    np.testing.assert_allclose(near, expected, rtol=0, atol=0.02)
    for name in ("fp32.onnx", "fp16.onnx"):
        made = onnx.load(str(tmp_path / name), load_external_data=False)
        assert {n.domain for n in made.graph.node} == {""}


def test_products_are_cast_and_angles_are_not(host: Bundle, tmp_path: Path):
    graph = stored(host, CASES["an angle"](), "angle")
    made = onnx.load(str(rewritten(graph, tmp_path, "fp16")), load_external_data=False)
    assert [n.op_type for n in made.graph.node] == ["MatMul", "Sin"]
    graph = stored(host, CASES["a convolution"](), "convolution")
    made = onnx.load(str(rewritten(graph, tmp_path, "bf16")))
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert sorted(k for n, k in kinds.items() if "conv" in n) == [TensorProto.BFLOAT16] * 2


def attention_in_pieces(heads: int, *, shared: bool = False) -> Nodes:
    """As the towers write it; ``shared`` has somebody else look at the scores."""
    shape = np.array([0, 0, heads, WIDTH // heads], np.int64)
    made = []
    for part in "qkv":
        made += [
            node("Reshape", ["x", "heads"], f"{part}.split", domain=""),
            node("Transpose", [f"{part}.split"], part, domain="", perm=[0, 2, 1, 3]),
        ]
    made += [
        node("Mul", ["q", "scale"], "q.scaled", domain=""),
        node("Transpose", ["k"], "turned", domain="", perm=[0, 1, 3, 2]),
        node("MatMul", ["q.scaled", "turned"], "scores", domain=""),
        node("Softmax", ["scores"], "weights", domain="", axis=-1),
        node("MatMul", ["weights", "v"], "mixed", domain=""),
    ]
    if shared:
        made.append(node("ReduceMax", ["weights"], "most", domain="", keepdims=0))
        made.append(node("Mul", ["mixed", "most"], domain=""))
    else:
        made.append(node("Identity", ["mixed"], domain=""))
    for n, one in enumerate(made):
        one.name = f"/piece.{n}/{one.op_type}"
    return made, {"heads": shape, "scale": np.array(0.3, np.float32)}


@pytest.mark.parametrize(
    ("heads", "shared", "fused"), [(4, False, 1), (2, False, 1), (16, False, 0), (4, True, 0)]
)
def test_attention_in_pieces_becomes_one_operator_where_there_is_a_kernel(
    host: Bundle, tmp_path: Path, heads: int, shared: bool, fused: int
):
    graph = stored(host, attention_in_pieces(heads, shared=shared), f"attention-{heads}-{shared}")
    expected = run(host.root / graph.entry.file)
    assert fuse_attention(graph) == fused
    rules = {**CONTRIB, ("", "Attention"): write_attention}
    found = run(rewritten(graph, tmp_path, "fp32", rules=rules, opset=24))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    made = onnx.load(str(tmp_path / "fp32.onnx"), load_external_data=False)
    kinds = [n.op_type for n in made.graph.node]
    assert (kinds.count("Attention"), kinds.count("Softmax")) == (fused, 1 - fused)


def test_an_operator_without_a_form_is_named_with_its_node(host: Bundle, tmp_path: Path):
    attention = node("MultiHeadAttention", ["x", "x", "x"], num_heads=4)
    graph = stored(host, ([attention], {}), "fused")
    message = "node '/multiheadattention/MultiHeadAttention' is a com.microsoft MultiHeadAttention"
    with pytest.raises(ExportError, match=message):
        rewritten(graph, tmp_path, "fp16")


def test_a_graph_of_an_older_set_is_refused(host: Bundle):
    relu = helper.make_node("Relu", ["x"], ["y"], name="/relu/Relu")
    graph = stored(host, ([relu], {}), "old", opset=14)
    with pytest.raises(ExportError, match="operator set 14; graphs of the operator sets 18 to 20"):
        graph.check_opset(18, 20)
