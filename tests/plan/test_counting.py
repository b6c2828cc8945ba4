"""The counter against counts by hand, and against what onnxruntime says of the same graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgevlm.bundle import Bundle
from edgevlm.cost.sheet import Poly
from edgevlm.errors import BundleCorrupt, CheckpointError
from edgevlm.export.cost.bundle import bundle_sheet
from edgevlm.export.cost.counter import count
from edgevlm.export.cost.sizes import polynomial
from edgevlm.export.cost.source import source_sheet
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from tests.core.tiny import END, HEADS, HIDDEN, KV_HEADS, LAYERS, WIDTH
from tests.export import tiny as tiny_texts

HEAD = HIDDEN // HEADS
LAYER_WEIGHTS = HIDDEN * (2 * HIDDEN + 2 * KV_HEADS * HEAD) + 3 * HIDDEN * WIDTH


def graph(nodes: list[onnx.NodeProto], shape: list[int | str], weights: dict[str, tuple[int, ...]]):
    """One float input ``x``, one output ``y``, weights of zeros."""
    made = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.zeros(s, np.float32), n) for n, s in weights.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)])


def test_a_product_is_two_operations_for_each_pair():
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], ["n", 48], {"w": (48, 10)})
    found = count(model, {"n": 7})
    assert found.flops == {"matmul": 2 * 7 * 48 * 10}
    assert found.values == {"matmul": 7 * 48 + 7 * 10}
    assert [(m.elements, m.inner) for m in found.matrices] == [(480, 48)]


def test_a_grouped_convolution_sums_over_its_own_channels_only():
    # 16 channels in 4 groups, 3x3, stride 2 on 8x8: 32 channels of 4x4, of 4 * 9 products each.
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4, strides=[2, 2], pads=[1, 1, 1, 1])
    found = count(graph([node], [1, 16, 8, 8], {"w": (32, 4, 3, 3)}), {})
    assert found.flops == {"convolution": 2 * 32 * 4 * 4 * 4 * 9}
    assert [m.elements for m in found.matrices] == [32 * 4 * 9]


def test_a_product_of_two_activations_is_attention():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    found = count(graph(nodes, [3, "n", 16], {}), {"n": 5})
    assert found.flops["attention"] == 2 * 3 * 5 * 5 * 16
    assert found.matrices == ()


def test_shapes_are_followed_through_computed_sizes():
    """Reshape to a shape that was cut out of Shape and joined, as exporters write it."""
    constants = {"two": 2, "zero": 0}
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Concat", ["s", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    model = graph(nodes, ["n", 4, 6], {"w": (6, 2)})
    rest = onnx.numpy_helper.from_array(np.array([constants["two"] * 2, -1], np.int64), "rest")
    model.graph.initializer.append(rest)
    assert count(model, {"n": 3}).flops == {"matmul": 2 * 3 * 4 * 6 * 2}


def test_the_peak_is_what_lives_at_once():
    """x (8) -> a (8) -> b (8), and y = a + b: behind a, x is gone, and a, b and y live together."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    assert count(graph(nodes, [8], {}), {}).peak == 24
    chain = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    assert count(graph(chain, [8], {}), {}).peak == 16


def test_a_shape_that_depends_on_data_is_refused_by_name():
    model = graph([helper.make_node("NonZero", ["x"], ["y"], name="/where")], [4], {})
    with pytest.raises(CheckpointError, match=r"NonZero /where.*depends on data"):
        count(model, {})


def test_an_unknown_dimension_and_an_unknown_operator_are_refused_by_name():
    with pytest.raises(CheckpointError, match=r"'strange'.*it knows n"):
        count(graph([helper.make_node("Relu", ["x"], ["y"])], ["strange"], {}), {"n": 1})
    odd = helper.make_node("Novel", ["x"], ["y"], name="/odd", domain="com.microsoft")
    with pytest.raises(CheckpointError, match=r"Novel \(/odd\)"):
        count(graph([odd], [4], {}), {})


def test_the_formula_goes_through_its_samples():
    truth = Poly(constant=3, linear=5, quadratic=0.5, past=7, cross=2)
    samples = [(n, 0, truth.at(n)) for n in (8, 16, 32)]
    samples += [(n, 64, truth.at(n, 64)) for n in (8, 16)]
    found = polynomial(samples)
    assert found.at(100, 1000) == pytest.approx(truth.at(100, 1000), rel=1e-9)


@pytest.mark.parametrize(("tokens", "past"), [(1, 0), (1, 300), (40, 0), (64, 128)])
def test_a_decoder_costs_what_its_formula_says(tiny: Bundle, tokens: int, past: int):
    """2 operations a weight and token; 4 for each position seen, head and dimension."""
    decoder = bundle_sheet(tiny.root).decoder
    assert decoder is not None
    head = HIDDEN * (END + 1)
    matmul = 2 * tokens * LAYERS * LAYER_WEIGHTS + 2 * head
    # Behind the attention, the last layer goes on with one position only.
    skipped = HIDDEN * HIDDEN + 3 * HIDDEN * WIDTH
    assert decoder.work["matmul"].flops.at(tokens, past) == pytest.approx(
        matmul - 2 * (tokens - 1) * skipped
    )
    seen = sum(past + n + 1 for n in range(tokens))
    assert decoder.work["attention"].flops.at(tokens, past) == pytest.approx(
        4 * LAYERS * HEADS * HEAD * seen
    )


def test_a_checkpoint_costs_what_its_bundle_costs(tiny: Bundle, checkpoint: Path):
    ours, theirs = source_sheet(str(checkpoint), ExportOptions()), bundle_sheet(tiny.root)
    assert ours.decoder == theirs.decoder
    assert (ours.parameters, ours.embedding) == (theirs.parameters, theirs.embedding)
    assert ours.kv_values_per_token == 2 * LAYERS * KV_HEADS * HEAD == theirs.kv_values_per_token
    assert (ours.stored, theirs.stored, theirs.capacity) == (
        None,
        "fp32",
        tiny.manifest.kv.capacity,
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_weights_take_what_the_bundle_takes(precision: str, checkpoint: Path, tmp_path: Path):
    """The rule of sizes against the manifest's own record of what was written."""
    sheet = source_sheet(str(checkpoint), ExportOptions())
    options = ExportOptions(precision=precision, allow_drift=True, calibrate=False)
    manifest = export(str(checkpoint), tmp_path / "b", options).manifest
    written = {}
    for entry in manifest.weights.values():
        for part in (entry.values, entry.scales, entry.zeros):
            if part is not None:
                written[part.file, part.offset] = part.nbytes
    norms = (2 * LAYERS + 1) * HIDDEN * (2 if precision == "fp16" else 4)
    predicted = sheet.decoder.weights.total[precision] + sheet.embedding[precision]
    assert predicted == pytest.approx(sum(written.values()) + norms, rel=0.03)


def test_counting_reads_no_weight_and_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A checkpoint of two gigabytes must not become as many on the disk."""
    from edgevlm.export.checkpoint.safetensors import SafetensorsFile

    def refuse(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(SafetensorsFile, "get", refuse)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert source_sheet(str(checkpoint), ExportOptions()).decoder is not None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_graph_is_refused(tiny: Bundle, tmp_path: Path):
    import shutil

    broken = Path(shutil.copytree(tiny.root, tmp_path / "b"))
    graph_file = broken / "decoder.onnx"
    graph_file.write_bytes(b"\xff" * graph_file.stat().st_size)
    with pytest.raises(BundleCorrupt, match=r"decoder\.onnx"):
        bundle_sheet(broken)


def test_an_imported_bundle_is_planned_as_it_is(tmp_path: Path):
    """Its graphs have standard operators and a cache that grows; its precision is settled."""
    tiny_texts.save(tmp_path / "c", tiny_texts.config("llama"))
    export(str(tmp_path / "c"), tmp_path / "hf", ExportOptions(layout="hf"))
    export(str(tmp_path / "hf"), tmp_path / "b", ExportOptions(allow_drift=True))
    own, imported = source_sheet(str(tmp_path / "c"), ExportOptions()), bundle_sheet(tmp_path / "b")
    assert own.decoder is not None
    assert imported.decoder is not None
    assert imported.decoder.weights.total.keys() == {"fp32"}
    # Every position gets logits there, and the last layer goes on with all of them.
    one, same = own.decoder, imported.decoder
    assert same.work["matmul"].flops.at(1) == pytest.approx(
        one.work["matmul"].flops.at(1), rel=0.01
    )
    with pytest.raises(CheckpointError, match="finished graphs"):
        source_sheet(str(tmp_path / "hf"), ExportOptions())


def test_scores_count_for_nothing_where_attention_is_fused():
    """Three rows of two numbers: nine scores, and as many weights."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "x"], ["y"]),
    ]
    found = count(graph(nodes, [3, 2], {}), {})
    assert found.peak == 6 + 9 + 9  # x, scores and weights
    assert found.fused_peak == 6 + 6  # x and what is made of it
