"""In which types a decoder for TensorRT computes, and what becomes of quantised weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgevlm.bundle import Bundle
from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT, StaticLowering
from edgevlm.errors import ConfigError, ExportError
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.quantize import quantize_symmetric
from edgevlm.export.targets.decoder import DecoderTarget, lower_decoder
from edgevlm.export.targets.decoder_weights import BundleWeights
from edgevlm.export.targets.forms import Forms
from edgevlm.export.targets.relower import TargetGraph, TargetPrecision, relower
from edgevlm.tensors import Float32
from tests.export.targets.specs import CAPACITY, SignedBlocks, bundle_of, spec_of
from tests.export.targets.test_decoder_lowerings import LOWERINGS, PROMPT, close, opened, rows_of

LLAMA = spec_of("llama")
HALVES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(LLAMA, tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="module")
def asymmetric(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_of(LLAMA, tmp_path_factory.mktemp("asymmetric") / "bundle", "int4")


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("symmetric") / "bundle"
    return bundle_of(LLAMA, folder, "int4", symmetric=True)


def lowered(
    bundle: Bundle, folder: Path, lowering: StaticLowering, precision: TargetPrecision | None
) -> TargetGraph:
    return relower(bundle, lowering, precision, folder)["decoder"]


def typed(path: Path) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model, checked by onnx, and the element type of every value."""
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.shape_inference.infer_shapes(
        onnx.load(str(path)), check_type=True, strict_mode=True
    )
    graph = model.graph
    known = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input]}
    return model, known | {t.name: t.data_type for t in graph.initializer}


def dequantised(path: Path) -> Iterator[tuple[str, Float32]]:
    """Every matrix that a DequantizeLinear gives, by onnx's own reference, as ``(in, out)``."""
    model = onnx.load(str(path))
    weights = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            kept = [weights[name] for name in node.input]
            value = helper.make_tensor_value_info("y", kept[1].data_type, None)
            alone = helper.make_node("DequantizeLinear", list(node.input), ["y"])
            alone.attribute.extend(node.attribute)
            graph = helper.make_graph([alone], "one", [], [value], kept)
            made = helper.make_model(graph, opset_imports=model.opset_import)
            (found,) = ReferenceEvaluator(made).run(None, {})
            yield node.name, np.asarray(found, np.float32)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int4"])
def test_types_are_stated_and_products_are_the_only_ones_in_half_precision(
    plain: Bundle, tmp_path: Path, lowering: StaticLowering, precision: TargetPrecision
):
    target = lowered(plain, tmp_path, lowering, precision)
    model, types = typed(target.path)
    half = HALVES.get(precision, TensorProto.FLOAT16)
    own = ("/scores/", "/mixed/")  # of attention, which computes in the cache's type
    products = [
        n for n in model.graph.node if n.op_type == "MatMul" and not any(o in n.name for o in own)
    ]
    assert len(products) == 4 * LLAMA.num_layers + 1
    assert {types[name] for node in products for name in node.input} == {half}
    for node in model.graph.node:
        if node.op_type in ("RMSNormalization", "RotaryEmbedding", "Softmax", "Sigmoid", "Sqrt"):
            assert types[node.input[0]] == TensorProto.FLOAT
    caches = {t.dtype for t in target.inputs if t.name.startswith("past_key_values.")}
    assert caches == {"float16"}
    assert {t.dtype for t in target.inputs} <= {"float32", "float16", "int64"}


@pytest.mark.parametrize(
    ("lowering", "precision", "opset"),
    [(ONNX_STD, "fp16", 24), (TRT10_COMPAT, "fp16", 20), (TRT10_COMPAT, "int8", 20),
     (TRT10_COMPAT, "int4", 21)],
)  # fmt: skip
def test_operators_are_of_the_standard_domain_and_of_a_set_that_the_target_reads(
    plain: Bundle, tmp_path: Path, lowering: StaticLowering, precision: TargetPrecision, opset: int
):
    target = lowered(plain, tmp_path, lowering, precision)
    model = onnx.load(str(target.path), load_external_data=False)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    unverified = any("not verified on TensorRT 10.3" in note for note in target.notes)
    assert unverified == (opset == 21)


def test_a_cache_in_place_shares_its_buffer_and_rows_that_go_out_do_not(
    plain: Bundle, tmp_path: Path
):
    target = lowered(plain, tmp_path, ONNX_STD, "fp16")
    shapes = {t.name: (t.dtype, t.shape) for t in (*target.inputs, *target.outputs)}
    assert len(target.aliases) == 2 * LLAMA.num_layers
    assert all(shapes[out] == shapes[into] for out, into in target.aliases.items())
    compat = lowered(plain, tmp_path, TRT10_COMPAT, "fp16")
    assert compat.aliases == {}
    assert {t.name for t in compat.outputs} >= {"new.0.key", "new.2.value"}
    assert target.ranges == {"tokens": (1, CAPACITY, CAPACITY), "rows": (1, 1, 16)}


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), ("int8", 0.3), ("int4", 3.0)])
def test_lower_precisions_stay_near(
    plain: Bundle,
    tmp_path: Path,
    lowering: StaticLowering,
    precision: TargetPrecision,
    limit: float,
):
    ours = opened(plain, lowered(plain, tmp_path, lowering, precision).path)
    theirs, rows = opened(plain, plain.path("decoder.onnx")), rows_of(LLAMA, PROMPT)
    close(ours.append(rows, logits=PROMPT), theirs.append(rows, logits=PROMPT), limit)
    row = rows_of(LLAMA, 1, seed=1)
    close(ours.append(row), theirs.append(row), limit)


def test_bf16_by_onnx_s_reference_since_no_cpu_kernel_has_it(plain: Bundle, tmp_path: Path):
    target = lowered(plain, tmp_path, ONNX_STD, "bf16")
    rows = rows_of(LLAMA, PROMPT)
    feeds = {
        "inputs_embeds": rows.embeds[None],
        "positions": np.arange(PROMPT)[None],
        "logit_rows": np.arange(PROMPT),
    }
    for entry in target.inputs:
        if entry.name not in feeds:
            feeds[entry.name] = np.zeros(entry.shape, entry.dtype)
    found = ReferenceEvaluator(str(target.path)).run(["logits"], feeds)[0]
    expected = opened(plain, plain.path("decoder.onnx")).append(rows, logits=PROMPT)
    close(np.asarray(found, np.float32), expected, 0.15)


def test_asymmetric_blocks_become_fp16_and_eight_bits_hold_them_without_loss(
    asymmetric: Bundle, tmp_path: Path
):
    usual = lowered(asymmetric, tmp_path, ONNX_STD, None)
    assert (usual.precision, usual.notes) == ("fp16", ("12 quantised matrices unpacked",))
    names = [name for name, _ in dequantised(usual.path)]
    assert not any("/mlp/" in name for name in names)
    assert any("/attn/qkv" in name for name in names)  # 8 bits and symmetric: kept
    source = BundleWeights(asymmetric, LLAMA)
    found = dict(dequantised(lowered(asymmetric, tmp_path, ONNX_STD, "int8").path))
    down = found["/layers.1/mlp/down/down_proj/DequantizeLinear"]
    stored = source.blocks("layers.1.mlp.down_proj.weight")
    assert stored is not None
    assert stored.zeros is not None
    scales = np.repeat(stored.scales.astype(np.float16), stored.block_size, axis=1)
    exact = stored.centred().reshape(down.T.shape).astype(np.float16) * scales
    np.testing.assert_array_equal(down.T, exact.astype(np.float32))


def test_symmetric_blocks_are_kept_and_nothing_is_said_to_be_lost(
    symmetric: Bundle, tmp_path: Path
):
    target = lowered(symmetric, tmp_path, ONNX_STD, None)
    assert (target.precision, target.notes) == ("int4", ())
    source = BundleWeights(symmetric, LLAMA)
    found = dict(dequantised(target.path))
    for place, name in {
        "layers.0/mlp/down/down_proj": "layers.0.mlp.down_proj",
        "layers.2/attn/o/o_proj": "layers.2.self_attn.o_proj",
    }.items():
        stored = source.blocks(f"{name}.weight")
        assert stored is not None
        assert stored.bits == 4
        matrix = found[f"/{place}/DequantizeLinear"].T
        np.testing.assert_allclose(matrix, stored.dequantize(), rtol=1e-3, atol=1e-6)
    model = onnx.load(str(target.path), load_external_data=False)
    kinds = {t.data_type for t in model.graph.initializer if t.name.endswith(".values")}
    assert kinds == {TensorProto.INT4, TensorProto.INT8}


def test_blocks_with_negative_scales_are_kept_where_they_may_be(tmp_path: Path):
    """In 4 bits TensorRT takes them; elsewhere only blocks that cannot turn over change."""
    bundle = bundle_of(
        LLAMA, tmp_path / "bundle", "int4", symmetric=True, weights=SignedBlocks(LLAMA)
    )
    stored = BundleWeights(bundle, LLAMA).blocks("layers.0.mlp.down_proj.weight")
    assert stored is not None
    assert (stored.scales < 0).any()
    name = "/layers.0/mlp/down/down_proj/DequantizeLinear"
    errors = {}
    for lowering in LOWERINGS:
        target = lowered(bundle, tmp_path, lowering, "int4")
        matrix = dict(dequantised(target.path))[name].T
        difference = (matrix - stored.dequantize()).reshape(stored.values.shape)
        errors[lowering] = np.abs(difference).max(-1)
        scales = [
            numpy_helper.to_array(t)
            for t in onnx.load(str(target.path)).graph.initializer
            if t.name.endswith(".scales") and (lowering == TRT10_COMPAT or ".attn.qkv" in t.name)
        ]
        assert lowering == ONNX_STD or all((s > 0).all() for s in scales)
    exact = 1e-3  # of scales in half precision
    assert (errors[ONNX_STD] < exact).all()
    assert (errors[TRT10_COMPAT][stored.scales > 0] < exact).all()
    assert (errors[TRT10_COMPAT][stored.scales < 0] > exact).all()
    assert (errors[TRT10_COMPAT] < 0.05).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_no_scale_is_zero_in_half_precision(bits: int, per_channel: bool):
    """Of a block of zeros, and of one of values that vanish there."""
    matrix = np.ones((4, 96), np.float32)
    matrix[1] = 0
    matrix[2, :32] = 1e-9
    stored = quantize_symmetric(matrix, bits)
    source = Mock(blocks=lambda _name: stored, get=lambda _name: matrix)
    plan = PrecisionPlan(default="int4")
    forms = Forms(source, f"int{bits}", per_channel=per_channel, plan=plan)
    made = forms.steps("layers.0.mlp.up_proj")
    assert made is not None
    assert (made.scales.astype(np.float16) > 0).all()
    np.testing.assert_allclose(made.dequantize(), matrix, rtol=0.02, atol=1e-6)


def test_matrices_of_different_forms_over_one_input_are_joined(tmp_path: Path):
    bundle = bundle_of(
        LLAMA,
        tmp_path / "bundle",
        "int4",
        symmetric=True,
        overrides={"*.v_proj": "fp32", "*.mlp.*": "fp32"},
    )
    target = lowered(bundle, tmp_path, ONNX_STD, None)
    nodes = onnx.load(str(target.path), load_external_data=False).graph.node
    joined = next(n for n in nodes if n.name == "/layers.0/attn/qkv/all/Concat")
    assert len(joined.input) == 2
    ours, theirs = opened(bundle, target.path), opened(bundle, bundle.path("decoder.onnx"))
    rows = rows_of(LLAMA, PROMPT)
    # Theirs rounds what goes into its 8-bit products, ours does not.
    close(ours.append(rows, logits=PROMPT), theirs.append(rows, logits=PROMPT), 0.2)


def test_what_is_rounded_anew_is_named_with_its_error(
    asymmetric: Bundle, symmetric: Bundle, tmp_path: Path
):
    (note,) = lowered(asymmetric, tmp_path, ONNX_STD, "int4").notes
    assert note.startswith("12 matrices rounded anew to symmetric int4: relative error at most 0.")
    notes = lowered(symmetric, tmp_path, TRT10_COMPAT, "int8").notes
    assert "22 matrices rounded anew to symmetric int8: relative error at most 0.0" in notes[0]
    assert lowered(symmetric, tmp_path, TRT10_COMPAT, None).precision == "fp16"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_head_over_the_limit_is_two_products(plain: Bundle, tmp_path: Path, precision: str):
    whole = (tmp_path / "whole", 1 << 20)
    cut = (
        tmp_path / "cut",
        LLAMA.vocab_size * LLAMA.hidden_size * (4 if precision == "fp32" else 1) - 1,
    )
    found, heads = [], []
    for folder, limit in (whole, cut):
        folder.mkdir()
        how = DecoderTarget(lowering=ONNX_STD, precision=precision, matrix_bytes=limit)
        target = lower_decoder(plain, how, folder, Progress(9))
        nodes = onnx.load(str(target.path), load_external_data=False).graph.node
        heads.append([n.op_type for n in nodes if n.name.startswith("/lm_head/")])
        rows = rows_of(LLAMA, PROMPT)
        found.append(opened(plain, target.path).append(rows, logits=PROMPT))
    assert heads[0].count("MatMul") == 1
    assert heads[1].count("MatMul") == 2
    assert "Concat" in heads[1]
    close(found[1], found[0], 1e-5)


def test_an_imported_decoder_is_refused(plain: Bundle, tmp_path: Path):
    graph = plain.manifest.graphs["decoder"].model_copy(update={"lowering": "hf-merged"})
    manifest = plain.manifest.model_copy(update={"graphs": {"decoder": graph}})
    with pytest.raises(ExportError, match=r"an imported graph \(hf-merged\), which cannot be"):
        relower(Bundle(plain.root, manifest), ONNX_STD, "fp16", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_refused(plain: Bundle, tmp_path: Path):
    with pytest.raises(ConfigError, match="--precision fp8: one of fp32, fp16, bf16, int8, int4"):
        relower(plain, ONNX_STD, "fp8", tmp_path)  # type: ignore[arg-type]


def test_matrices_come_back_as_they_were_exported(plain: Bundle, asymmetric: Bundle):
    from tests.export.targets.specs import RandomWeights

    original = RandomWeights(LLAMA)
    for bundle, limit in ((plain, 0.0), (asymmetric, 0.15)):
        source = BundleWeights(bundle, LLAMA)
        for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"):
            full = f"layers.1.{name}.weight"
            assert source.shape(full) == original.shape(full)
            np.testing.assert_allclose(source.get(full), original.get(full), rtol=0, atol=limit)
        norm = "layers.1.input_layernorm.weight"
        np.testing.assert_array_equal(source.get(norm), original.get(norm))
