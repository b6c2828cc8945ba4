"""Backends: the real ONNX Runtime on graphs made here, and the scripted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError, ConfigError, ContractError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.model.load import load, open_backend

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Save a graph of one operator, inputs ``x``, output ``y``."""

    def save(
        operator: str = "Add",
        inputs: tuple[str, ...] = ("x", "x"),
        shape: tuple[int | str, ...] = ("batch", 4),
        dtype: int = TensorProto.FLOAT,
        constants: tuple[Any, ...] = (),
        **attributes: Any,
    ) -> Path:
        graph = helper.make_graph(
            [helper.make_node(operator, list(inputs), ["y"], **attributes)],
            "one",
            [helper.make_tensor_value_info("x", dtype, shape)],
            [helper.make_tensor_value_info("y", dtype, None)],
            list(constants),
        )
        opset = [helper.make_opsetid("", 17)]
        path = tmp_path / "graph.onnx"
        path.write_bytes(
            helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        )
        return path

    return save


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """``after = before + x``, ``y = 2 after``: a graph with a state of four numbers."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["before", "sum"], ["after"]),
            helper.make_node("Add", ["after", "after"], ["y"]),
        ],
        "counter",
        [value("x", TensorProto.FLOAT, ["rows", 4]), value("before", TensorProto.FLOAT, [4])],
        [value("after", TensorProto.FLOAT, [4]), value("y", TensorProto.FLOAT, [4])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )
    path = tmp_path / "counter.onnx"
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    return path


@pytest.fixture
def cpu() -> Backend:
    """ONNX Runtime's CPU provider."""
    return open_backend("ort-cpu", threads=1, spin=False)


def test_a_graph_says_what_it_takes_and_gives(cpu: Backend, make: Make):
    graph = cpu.load(make())
    (taken,) = graph.inputs
    assert (taken.name, taken.dtype, taken.shape) == ("x", "float32", ("batch", 4))
    assert [spec.name for spec in graph.outputs] == ["y"]
    for batch in (1, 3):
        rows = np.arange(batch * 4, dtype=np.float32).reshape(batch, 4)
        np.testing.assert_array_equal(graph.run({"x": rows})["y"], rows * 2)
    graph.close()
    graph.close()


def test_it_names_itself_and_its_version(cpu: Backend):
    import onnxruntime

    assert cpu.name == "ort-cpu"
    assert cpu.versions() == {"onnxruntime": onnxruntime.__version__}


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ({}, r"missing or unknown graph inputs: \['x'\]"),
        ({"x": 1, "z": 1}, r"missing or unknown graph inputs: \['z'\]"),
        ({"y": 1}, r"missing or unknown graph inputs: \['x', 'y'\]"),
        ({"x": (2, 5)}, r"'x' must be float32 \('batch', 4\), got float32 \(2, 5\)"),
        ({"x": (4,)}, r"'x' must be float32 \('batch', 4\), got float32 \(4,\)"),
        ({"x": "float64"}, r"'x' must be float32 \('batch', 4\), got float64 \(1, 4\)"),
    ],
    ids=str,
)
def test_a_wrong_feed_is_named(cpu: Backend, make: Make, feed: dict[str, Any], message: str):
    values = {}
    for name, what in feed.items():
        shape = what if isinstance(what, tuple) else (1, 4)
        values[name] = np.ones(shape, what if isinstance(what, str) else np.float32)
    with pytest.raises(ContractError, match=message):
        cpu.load(make()).run(values)


def test_a_graph_that_is_not_there_is_named(cpu: Backend, tmp_path: Path):
    with pytest.raises(BackendError, match=r"gone\.onnx does not load on CPUExecutionProvider"):
        cpu.load(tmp_path / "gone.onnx")


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x08" * 50])
def test_a_file_that_is_no_graph_is_named(cpu: Backend, tmp_path: Path, content: bytes):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(BackendError, match=r"bad\.onnx does not load"):
        cpu.load(tmp_path / "bad.onnx")


def test_an_operator_that_nobody_knows_is_refused_at_loading(cpu: Backend, make: Make):
    with pytest.raises(BackendError, match="does not load"):
        cpu.load(make("NoSuchOperator"))


def test_a_tensor_type_that_is_not_taken_is_refused_at_loading(cpu: Backend, make: Make):
    with pytest.raises(BackendError, match=r"'x' has the type tensor\(double\)"):
        cpu.load(make(dtype=TensorProto.DOUBLE))


def test_an_operator_that_fails_is_the_backends_error(cpu: Backend, make: Make):
    index = helper.make_tensor("i", TensorProto.INT64, [1], [99])
    graph = cpu.load(make("Gather", ("x", "i"), constants=(index,), axis=1))
    with pytest.raises(BackendError, match="ONNX Runtime failed") as caught:
        graph.run({"x": np.ones((1, 4), np.float32)})
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("location", ["../secret.bin", "{folder}/secret.bin", "link.bin"])
def test_weights_outside_the_bundle_are_not_read(cpu: Backend, tmp_path: Path, location: str):
    np.ones(4, np.float32).tofile(tmp_path / "secret.bin")
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "link.bin").symlink_to("../secret.bin")
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", location.format(folder=tmp_path)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "thief",
        [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])], [outside],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (root / "vision.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"vision\.onnx does not load"):
        cpu.load(root / "vision.onnx")


def test_a_state_starts_at_zero_and_stays_between_calls(cpu: Backend, counter: Path):
    graph = cpu.load(counter)
    first, second = (graph.bind({"after": "before"}) for _ in range(2))
    ones = np.ones((1, 4), np.float32)
    for count in (1, 2, 3):
        first.run({"x": ones}, {"y": (4,)})
        np.testing.assert_array_equal(first.output("y"), np.full(4, 2 * count))
    second.run({"x": ones}, {"y": (4,)})
    np.testing.assert_array_equal(second.output("y"), np.full(4, 2))
    first.run({"x": np.ones((5, 4), np.float32)}, {"y": (4,)})  # another number of rows
    np.testing.assert_array_equal(first.output("y"), np.full(4, 16))
    first.close()
    first.close()
    second.close()


def test_a_state_without_a_fixed_size_is_refused(cpu: Backend, make: Make):
    with pytest.raises(ContractError, match="'x' has free dimensions"):
        cpu.load(make()).bind({"y": "x"})


def test_an_unknown_backend_lists_the_known_ones_with_the_nearest(nano: Bundle):
    with pytest.raises(ConfigError, match=r"'ort-gpu' among the backends: ort-cpu") as caught:
        load(nano.root, backend="ort-gpu")
    assert "did you mean 'ort-cpu'?" in str(caught.value)


def test_the_exported_graphs_are_valid_onnx_and_take_what_the_manifest_says(
    nano: Bundle, cpu: Backend
):
    for entry in nano.manifest.graphs.values():
        path = nano.path(entry.file)
        loaded = cpu.load(path)
        written = {(t.name, t.dtype, len(t.shape)) for t in (*entry.inputs, *entry.outputs)}
        real = {(t.name, t.dtype, len(t.shape)) for t in (*loaded.inputs, *loaded.outputs)}
        assert written == real
        assert {o.version for o in onnx.load(path, load_external_data=False).opset_import} >= {
            entry.opset
        }
        loaded.close()


def test_the_scripted_backend_has_the_graphs_of_its_manifest_and_no_others(nano: Bundle):
    scripted = ScriptedBackend(nano.manifest, [5])
    assert scripted.name == "scripted"
    graph = scripted.load(Path("/anywhere/vision.onnx"))
    pixels = np.zeros((224, 224, 3), np.uint8)
    assert graph.run({"image": pixels})["visual_tokens"].shape == (16, 576)
    with pytest.raises(BackendError, match=r"other\.onnx is not a graph of nano"):
        scripted.load(Path("other.onnx"))


def test_the_scripted_backend_refuses_what_the_real_one_would_refuse(nano: Bundle):
    graph = ScriptedBackend(nano.manifest, [5]).load(Path("vision.onnx"))
    with pytest.raises(ContractError, match="'image' must be uint8"):
        graph.run({"image": np.zeros((224, 224, 3), np.float32)})
    decoder = ScriptedBackend(nano.manifest, [5]).load(Path("decoder.onnx"))
    with pytest.raises(BackendError, match="lacks"):
        decoder.bind({"present.0.key": "past_key_values.99.key"})
    with pytest.raises(BackendError, match="no output 'features'"):
        decoder.bind({}).output("features")
