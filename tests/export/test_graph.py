"""Graphs as files: their wiring, and where their weights lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from edgevlm.bundle import Bundle
from edgevlm.export.graph import ALIGNMENT, INLINE_BYTES, MS, DataFile, GraphBuilder


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[GraphBuilder]:
    with DataFile(tmp_path / "g.onnx.data") as data:
        made = GraphBuilder("g", data)
        made.input("x", "float32", (2, 3))
        made.output("y", "float32", (2, 3))
        yield made


def test_a_saved_graph_runs(graph: GraphBuilder, tmp_path: Path) -> None:
    weight = np.arange(3 * 512, dtype=np.float32).reshape(3, 512)
    graph.weight("w", weight)
    graph.weight("b", np.full(512, 0.5, np.float32))
    wide = graph.node("Add", [graph.node("MatMul", ["x", "w"], "place"), "b"], "place")
    graph.constant("rows", np.array([[1], [-1]], np.float32))
    scaled = graph.node("Mul", [wide, "rows"], "place")
    starts, ends, axes = (
        graph.constant(n, np.array([v], np.int64)) for n, v in (("s", 0), ("e", 3), ("a", 1))
    )
    graph.node("Slice", [scaled, starts, ends, axes], "place", outputs=["y"])
    graph.save(tmp_path / "g.onnx")
    graph.data.close()
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    session = onnxruntime.InferenceSession(
        str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"]
    )
    wanted = ((x @ weight + 0.5) * [[1], [-1]])[:, :3]
    assert np.allclose(session.run(None, {"x": x})[0], wanted, rtol=1e-6)
    onnx.checker.check_model(str(tmp_path / "g.onnx"), full_check=True)
    model = onnx.load(tmp_path / "g.onnx", load_external_data=False)
    assert [n.name for n in model.graph.node][:2] == ["/place/MatMul", "/place/Add"]


def test_an_input_that_nothing_reads_is_refused(graph: GraphBuilder, tmp_path: Path) -> None:
    graph.input("idle", "int64", (1,))
    graph.node("Identity", ["x"], "p", outputs=["y"])
    with pytest.raises(AssertionError, match=r"graph inputs without a consumer: \['idle'\]"):
        graph.save(tmp_path / "g.onnx")
    assert not (tmp_path / "g.onnx").exists()


@pytest.mark.parametrize("size", [2, 4096])
def test_a_weight_that_nothing_reads_is_refused(
    graph: GraphBuilder, tmp_path: Path, size: int
) -> None:
    graph.weight("idle", np.zeros(size, np.float32))
    graph.node("Identity", ["x"], "p", outputs=["y"])
    with pytest.raises(AssertionError, match=r"weights without a consumer: \['idle'\]"):
        graph.save(tmp_path / "g.onnx")


def test_a_value_that_nothing_makes_is_refused(graph: GraphBuilder, tmp_path: Path) -> None:
    graph.node("Add", ["x", "ghost"], "p", outputs=["y"])
    with pytest.raises(AssertionError, match=r"values without a producer: \['ghost'\]"):
        graph.save(tmp_path / "g.onnx")


def test_an_output_that_nothing_makes_is_refused(graph: GraphBuilder, tmp_path: Path) -> None:
    graph.node("Identity", ["x"], "p", outputs=["z"])
    with pytest.raises(AssertionError, match=r"values without a producer: \['y'\]"):
        graph.save(tmp_path / "g.onnx")


@pytest.mark.parametrize(
    "value",
    [
        np.arange(7, dtype=np.uint8),
        np.arange(5000, dtype=np.float32).reshape(50, 100),
        np.arange(12, dtype=np.float16).reshape(3, 4)[:, ::2],
        np.arange(12, dtype=np.int64).reshape(3, 4).T,
        np.float32(3.5).reshape(()),
    ],
    ids=["bytes", "matrix", "strided", "transposed", "scalar"],
)
def test_arrays_in_a_data_file_lie_on_page_boundaries(tmp_path: Path, value: np.ndarray) -> None:
    with DataFile(tmp_path / "d") as data:
        first = data.write(np.ones(3, np.uint8))
        second = data.write(value)
        third = data.write(value)
    raw = (tmp_path / "d").read_bytes()
    assert first.offset == 0
    assert all(s.offset % ALIGNMENT == 0 for s in (second, third))
    for segment in (second, third):
        piece = raw[segment.offset : segment.offset + segment.nbytes]
        found = np.frombuffer(piece, segment.dtype).reshape(segment.shape)
        assert np.array_equal(found, value)
        assert found.dtype == value.dtype
    assert not any(raw[first.nbytes : second.offset])
    assert len(raw) == third.offset + third.nbytes


def test_small_weights_stay_in_the_graph_file(graph: GraphBuilder, tmp_path: Path) -> None:
    assert graph.weight("small", np.zeros(INLINE_BYTES // 4, np.float32)) is None
    assert graph.weight("large", np.zeros(INLINE_BYTES // 4 + 1, np.float32)) is not None
    graph.data.close()
    assert (tmp_path / "g.onnx.data").stat().st_size == INLINE_BYTES + 4


def external(tensor: TensorProto) -> dict[str, str]:
    return {e.key: e.value for e in tensor.external_data}


@pytest.mark.parametrize("name", ["vision", "decoder"])
@pytest.mark.parametrize("precision", ["int4", "fp32"])
def test_every_external_weight_of_nano_lies_inside_its_file_and_alone(
    nano: Bundle, nano_fp32: Bundle, name: str, precision: str
) -> None:
    bundle = nano if precision == "int4" else nano_fp32
    path = bundle.path(bundle.manifest.graphs[name].file)
    model = onnx.load(path, load_external_data=False)
    size = bundle.path(f"{path.name}.data").stat().st_size
    spans = []
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            assert len(tensor.raw_data) <= INLINE_BYTES
            continue
        place = external(tensor)
        assert place["location"] == f"{path.name}.data"
        offset, length = int(place["offset"]), int(place["length"])
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        assert length == item * int(np.prod(tensor.dims))
        assert offset % ALIGNMENT == 0
        assert offset + length <= size
        spans.append((offset, offset + length))
    spans.sort()
    assert len(spans) > 50
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert size - spans[-1][1] == 0


def test_onnx_checks_nanos_vision_graph(nano: Bundle) -> None:
    onnx.checker.check_model(str(nano.path("vision.onnx")), full_check=True)


@pytest.mark.parametrize("name", ["vision", "decoder"])
def test_nanos_graphs_are_well_formed(nano: Bundle, name: str) -> None:
    entry = nano.manifest.graphs[name]
    model = onnx.load(nano.path(entry.file))
    graph = model.graph
    assert {o.domain: o.version for o in model.opset_import}[""] == entry.opset
    domains = {o.domain for o in model.opset_import}
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    made = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {""}
    fused = {"SimplifiedLayerNormalization"}  # ONNX Runtime's own, though in the standard domain
    for node in graph.node:
        assert node.domain in domains
        if node.domain == "" and node.op_type not in fused:
            onnx.checker.check_node(node, context)
        assert set(node.input) <= made, node.name
        assert not set(node.output) & (made - {""}), node.name
        made |= set(node.output)
    names = [n.name for n in graph.node]
    assert len(set(names)) == len(names)
    assert {n.domain for n in graph.node} == ({"", MS} if name == "decoder" else {""})
    for declared, found in ((entry.inputs, graph.input), (entry.outputs, graph.output)):
        assert [t.name for t in declared] == [v.name for v in found]
        for tensor, value in zip(declared, found, strict=True):
            onnx.checker.check_value_info(value, context)
            kind = value.type.tensor_type
            dims = tuple(d.dim_param or d.dim_value for d in kind.shape.dim)
            assert dims == tensor.shape
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            assert dtype == np.dtype(tensor.dtype)


def test_the_manifest_says_where_every_decoder_weight_lies(nano: Bundle) -> None:
    model = onnx.load(nano.path("decoder.onnx"), load_external_data=False)
    places = {
        t.name: (int(external(t)["offset"]), tuple(t.dims))
        for t in model.graph.initializer
        if t.data_location == TensorProto.EXTERNAL
    }
    for label, entry in nano.manifest.weights.items():
        if label == "embedding":
            continue
        parts = {"values": entry.values, "scales": entry.scales, "zeros": entry.zeros}
        for part, segment in parts.items():
            if segment is not None:
                name = f"{label}.{part}" if entry.layout == "blocks" else f"{label}.weight"
                assert places[name] == (segment.offset, segment.shape), name
    assert nano.manifest.weights["embedding"] == nano.manifest.weights["embed_tokens"]


def test_nothing_of_the_exporting_machine_is_in_the_graphs(nano: Bundle) -> None:
    for name in ("vision.onnx", "decoder.onnx", "manifest.json"):
        raw = (nano.root / name).read_bytes()
        assert str(nano.root).encode() not in raw
        assert str(Path.home()).encode() + b"/" not in raw
