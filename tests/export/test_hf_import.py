"""Folders of finished graphs become bundles: our own, optimum's, and variants of both."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import transformers
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from edgevlm.runtime.model.decoder import open_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import load, open_backend
from tests.export.tiny import (
    PROMPT,
    config,
    refused,
    save,
    tokenizer,
    torch_greedy,
    torch_logits,
)
from tests.export.vlm import tiny

OPTIMUM = Path(__file__).parent.parent / "data" / "optimum_llama"
IDS = tokenizer().encode(PROMPT).ids
BLIND = "ort-cpu: not compared with its source model"


def import_to(source: Path, target: Path, **options: Any) -> Exported:
    return export(str(source), target, ExportOptions(**options))


def logits_of(bundle: Bundle, pieces: tuple[int, ...] = ()) -> np.ndarray:
    """Logits at every position of ``IDS``, cut at ``pieces``."""
    graph = open_backend("ort-cpu", threads=2, spin=False).load(bundle.path("decoder.onnx"))
    decoder, rows = open_decoder(bundle.manifest, graph), EmbeddingTable(bundle).rows(IDS)
    cuts = [0, *pieces, len(IDS)]
    parts = [decoder.append(rows[a:b], logits=b - a).copy() for a, b in itertools.pairwise(cuts)]
    decoder.close()
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def optimum() -> Any:
    """The model that optimum's folder was made from, as transformers runs it."""
    settings = transformers.AutoConfig.from_pretrained(OPTIMUM / "export")
    model = transformers.AutoModelForCausalLM.from_config(settings).float().eval()
    lost, odd = model.load_state_dict(load_file(OPTIMUM / "weights.safetensors"), strict=False)
    assert (lost, odd) == (["lm_head.weight"], [])
    model.tie_weights()
    return model


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    target = tmp_path_factory.mktemp("optimum") / "bundle"
    import_to(OPTIMUM / "export", target)
    return open_bundle(target)


def test_optimums_text_model_gives_the_logits_of_transformers(optimum: Any, imported: Bundle):
    wanted = torch_logits(optimum, IDS)
    assert wanted.std() > 0.5
    assert np.abs(logits_of(imported) - wanted).max() < 1e-4
    assert np.abs(logits_of(imported, (1, 2, 11)) - wanted).max() < 1e-4


def test_optimums_text_model_answers_as_generate_does(optimum: Any, imported: Bundle):
    with load(imported.root, threads=2, spin=False) as model:
        first, other = (model.ask(None, text, max_tokens=32) for text in (PROMPT, PROMPT[:20]))
    assert list(first.token_ids) == torch_greedy(optimum, IDS, 32)
    short = tokenizer().encode(PROMPT[:20]).ids
    assert list(other.token_ids) == torch_greedy(optimum, short, 32)


def test_the_cache_goes_back_to_any_position(imported: Bundle):
    graph = open_backend("ort-cpu", threads=2, spin=False).load(imported.path("decoder.onnx"))
    decoder, rows = open_decoder(imported.manifest, graph), EmbeddingTable(imported).rows(IDS)
    whole = decoder.append(rows, logits=len(IDS)).copy()
    for keep in (len(IDS) - 1, 7, 0):
        decoder.rewind(keep)
        decoder.append(rows[::-1].copy())
        decoder.rewind(keep)
        again = decoder.append(rows[keep:], logits=len(IDS) - keep)
        assert np.abs(again - whole[keep:]).max() < 1e-5
    with pytest.raises(ValueError, match="cannot rewind"):
        decoder.rewind(len(IDS) + 1)


def test_an_import_without_its_source_says_that_nothing_was_compared(imported: Bundle):
    manifest = imported.manifest
    assert manifest.graphs["decoder"].lowering == "hf-merged"
    assert manifest.graphs["decoder"].notes == ("imported from model.onnx",)
    assert set(manifest.source.parts) == {"model.onnx"}
    assert manifest.parity is not None
    assert not manifest.parity.passed
    assert manifest.parity.degraded == (BLIND,)
    stored = json.loads(imported.read_text("parity.json"))
    assert stored["reference"].startswith("nothing")
    assert stored["backends"][0]["status"] == "not compared"


def test_with_its_source_an_import_is_certified(tmp_path: Path):
    source = tmp_path / "source"
    shutil.copytree(OPTIMUM / "export", source, ignore=shutil.ignore_patterns("*.onnx"))
    shutil.copy(OPTIMUM / "weights.safetensors", source / "model.safetensors")
    done = import_to(OPTIMUM / "export", tmp_path / "bundle", reference=source)
    assert done.manifest is not None
    assert done.manifest.parity is not None
    assert done.manifest.parity.passed
    found = done.certificate.backends[0]
    assert found.greedy is not None
    assert found.greedy.agreed == 32
    with pytest.raises(ConfigError, match="weights of its own"):
        import_to(source, tmp_path / "other", reference=source)


# --- variants of the same folder ----------------------------------------------------------------


Change = Callable[[Path], None]


def in_onnx(change: Callable[[onnx.ModelProto], None], name: str = "model.onnx") -> Change:
    def apply(folder: Path) -> None:
        model = onnx.load(folder / name)
        change(model)
        onnx.save(model, folder / name)

    return apply


def external(folder: Path) -> None:
    """Weights beside the file, as it is done over two gigabytes."""
    model = onnx.load(folder / "model.onnx")
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data",
        size_threshold=0,
    )  # fmt: skip


def in_subfolder(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "decoder_model_merged.onnx")


def few_logits(model: onnx.ModelProto) -> None:
    """``num_logits_to_keep``, as newer exports take it; 0 keeps all."""
    graph = model.graph
    last = next(n for n in graph.node if "logits" in n.output)
    last.output[0] = "all_logits"
    graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("at.zero", 0), ("at.one", 1), ("at.end", np.iinfo(np.int64).max))
    )
    graph.node.extend(
        [
            helper.make_node("Neg", ["num_logits_to_keep"], ["negative"]),
            helper.make_node("Unsqueeze", ["negative", "at.zero"], ["begin"]),
            helper.make_node("Slice", ["all_logits", "begin", "at.end", "at.one"], ["logits"]),
        ]
    )
    graph.input.append(helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, []))


def two_branches(model: onnx.ModelProto) -> None:
    """``use_cache_branch``, as older merged exports take it; the lookup stays outside."""
    graph = model.graph
    lookup = next(n for n in graph.node if n.op_type == "Gather" and "input_ids" in n.input)
    body = [n for n in graph.node if n != lookup]
    branches = [
        helper.make_graph(body, name, [], list(graph.output)) for name in ("without", "with_past")
    ]
    for n, branch in enumerate(branches):  # names are the whole model's
        inside = {v for node in body for v in node.output}
        for node in branch.node:
            for values in (node.input, node.output):
                for place, value in enumerate(values):
                    if value in inside:
                        values[place] = f"{n}/{value}"
        for output in branch.output:
            output.name = f"{n}/{output.name}"
    merged = helper.make_node(
        "If", ["use_cache_branch"], [o.name for o in graph.output],
        else_branch=branches[0], then_branch=branches[1],
    )  # fmt: skip
    del graph.node[:]
    graph.node.extend([lookup, merged])
    graph.input.append(helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]))


def shapes_of_ids(model: onnx.ModelProto) -> None:
    """Some exports ask the token ids how many they are."""
    graph = model.graph
    first = next(n for n in graph.node if "position_ids" in n.input)
    place = list(first.input).index("position_ids")
    first.input[place] = "shaped_positions"
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
        helper.make_node("Reshape", ["position_ids", "ids_shape"], ["shaped_positions"]),
    ]
    for n, node in enumerate(nodes):
        graph.node.insert(n, node)


VARIANTS: dict[str, Change] = {
    "weights beside the file": external,
    "a folder of its own": in_subfolder,
    "num_logits_to_keep": in_onnx(few_logits),
    "use_cache_branch": in_onnx(two_branches),
    "shapes of token ids": in_onnx(shapes_of_ids),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_gives_the_same_logits(tmp_path: Path, optimum: Any, name: str):
    folder = tmp_path / "folder"
    shutil.copytree(OPTIMUM / "export", folder)
    VARIANTS[name](folder)
    import_to(folder, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")
    assert np.abs(logits_of(bundle, (9, 10)) - torch_logits(optimum, IDS)).max() < 1e-4


def quantize_dynamic(folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        folder / "model.onnx", folder / "model_quantized.onnx", weight_type=QuantType.QUInt8,
        op_types_to_quantize=["MatMul", "Gather"],
    )  # fmt: skip


def halves(folder: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(
        onnx.load(folder / "model.onnx"), keep_io_types=True, disable_shape_infer=True
    )
    onnx.save(model, folder / "model_fp16.onnx")


@pytest.mark.parametrize(
    ("precision", "make", "limit"),
    [("int8", quantize_dynamic, 0.15), ("fp16", halves, 0.02)],
)
def test_onnxruntimes_own_quantisations_are_taken_by_their_suffix(
    tmp_path: Path, optimum: Any, precision: Any, make: Change, limit: float
):
    folder = tmp_path / "folder"
    shutil.copytree(OPTIMUM / "export", folder)
    make(folder)
    import_to(folder, tmp_path / "bundle", precision=precision)
    bundle, wanted = open_bundle(tmp_path / "bundle"), torch_logits(optimum, IDS)
    error = np.sqrt(np.square(logits_of(bundle) - wanted).mean()) / wanted.std()
    print(f"{precision}: relative rms error {error:.2g}")
    assert 0 < error < limit
    entry = bundle.manifest.graphs["decoder"]
    assert (entry.precision, bundle.manifest.precision) == (precision, precision)


def test_four_bit_products_compute_with_int8_activations(tmp_path: Path):
    checkpoint = save(tmp_path / "checkpoint", config("llama", num_hidden_layers=1))
    export(
        str(checkpoint.folder), tmp_path / "folder",
        ExportOptions(layout="hf", precision="int4", allow_drift=True),
    )  # fmt: skip
    path = tmp_path / "folder" / "onnx" / "model_q4.onnx"
    model = onnx.load(path)
    products = [n for n in model.graph.node if n.op_type == "MatMulNBits"]
    for n, node in enumerate(products):  # unset, as in older uploads, or 0
        level = next(a for a in node.attribute if a.name == "accuracy_level")
        level.i = 0
        if n % 2:
            node.attribute.remove(level)
    onnx.save(model, path)
    import_to(tmp_path / "folder", tmp_path / "bundle", precision="int4")
    bundle = open_bundle(tmp_path / "bundle")
    made = [
        n for n in onnx.load(bundle.path("decoder.onnx")).graph.node if n.op_type == "MatMulNBits"
    ]
    assert [next(a.i for a in n.attribute if a.name == "accuracy_level") for n in made] == [4] * 8
    note = "accuracy_level 4 in place of 0 in 8 MatMulNBits"
    assert note in bundle.manifest.graphs["decoder"].notes
    wanted = torch_logits(checkpoint.model, IDS)
    error = np.sqrt(np.square(logits_of(bundle) - wanted).mean()) / wanted.std()
    assert 0 < error < 0.6


# --- what is refused ----------------------------------------------------------------------------


def config_says(**changes: Any) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return apply


def outside(folder: Path) -> None:
    external(folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../model.onnx_data"
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def without_data(folder: Path) -> None:
    external(folder)
    (folder / "model.onnx_data").unlink()


def short_data(folder: Path) -> None:
    external(folder)
    path = folder / "model.onnx_data"
    path.write_bytes(path.read_bytes()[:-1000])


def strange_input(model: onnx.ModelProto) -> None:
    info = helper.make_tensor_value_info("encoder_hidden_states", TensorProto.FLOAT, [1, 2, 24])
    model.graph.input.append(info)


def summed_ids(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["input_ids"], ["unused"]))


REFUSED: dict[str, tuple[Change, str]] = {
    "no model": (lambda f: (f / "model.onnx").write_bytes(b"\x00garbage"), "no ONNX model"),
    "empty": (lambda f: (f / "model.onnx").write_bytes(b""), "no ONNX model"),
    "more layers": (config_says(num_hidden_layers=3), "lacks past_key_values.2.key"),
    "other heads": (config_says(num_key_value_heads=3), "config.json makes it"),
    "unknown input": (in_onnx(strange_input), "takes encoder_hidden_states"),
    "ids used elsewhere": (in_onnx(summed_ids), "token ids also go into Neg"),
    "data outside": (outside, "outside its folder"),
    "data missing": (without_data, "which is not there"),
    "data cut": (short_data, "reaches over the end"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "unknown family": (config_says(model_type="mystery"), "'mystery' is not known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, name: str):
    folder, target = tmp_path / "folder", tmp_path / "target"
    shutil.copytree(OPTIMUM / "export", folder)
    target.mkdir()
    change, reason = REFUSED[name]
    change(folder)
    error = refused(folder, target)
    assert isinstance(error, CheckpointError)
    assert reason in str(error)


def test_a_precision_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path):
    (tmp_path / "target").mkdir()
    error = str(refused(OPTIMUM / "export", tmp_path / "target", precision="int4"))
    assert "model_q4.onnx" in error
    assert "there is model.onnx; --precision can be fp32" in error


def test_a_family_that_needs_more_than_the_layout_holds_is_refused(tmp_path: Path):
    folder, target = tmp_path / "folder", tmp_path / "target"
    tiny.llava_onevision(folder)
    (folder / "model.safetensors").unlink()
    (folder / "onnx").mkdir()
    target.mkdir()
    shutil.copy(OPTIMUM / "export" / "model.onnx", folder / "onnx" / "decoder_model_merged.onnx")
    error = str(refused(folder, target))
    assert "graphs of llava_onevision are not imported" in error
    assert "smolvlm" in error


def test_verify_runs_the_graphs_and_says_that_nothing_was_compared(imported: Bundle):
    command = [sys.executable, "-m", "edgevlm", "verify", str(imported.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "files agree with bundle" in done.stdout
    assert "not compared" in done.stdout


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adapter": OPTIMUM}, "--adapter"),
        ({"check_images": OPTIMUM}, "--check-images"),
        ({"image_size": 64}, "--image-size"),
        ({"resume": True}, "--resume"),
    ],
)
def test_options_that_finished_graphs_cannot_follow_are_refused(
    tmp_path: Path, options: dict[str, Any], named: str
):
    error = refused(OPTIMUM / "export", tmp_path, **options)
    assert isinstance(error, ConfigError)
    assert named in str(error)
