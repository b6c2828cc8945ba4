"""Folders that ``--layout hf`` writes, run by the layout's names and held against transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgevlm.errors import BundleExists, CheckpointError, ConfigError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import Exported, export
from tests.export.layout import MergedDecoder, session
from tests.export.test_gemma import config as gemma
from tests.export.tiny import PROMPT, config, contents, refused, save, tokenizer, torch_logits
from tests.export.vlm import tiny

STEPS = 16
TEXT_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, 3 heads of 10, tied": (
        "llama",
        {
            "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10,
            "tie_word_embeddings": True,
        },
    ),
    "llama, biases everywhere": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, linear rope": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}},
    ),
    "qwen2": ("qwen2", {"num_attention_heads": 6, "hidden_size": 96}),
    "qwen3": ("qwen3", {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 32}),
}  # fmt: skip
IDS = np.array([tokenizer().encode(PROMPT).ids], np.int64)


def export_layout(source: Path, target: Path, **options: Any) -> Exported:
    return export(str(source), target, ExportOptions(layout="hf", **options))


@pytest.fixture(scope="module")
def smolvlm(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    return tiny.smolvlm(tmp_path_factory.mktemp("smolvlm") / "checkpoint")


@pytest.fixture(scope="module")
def exported(smolvlm: tiny.Tiny) -> Exported:
    return export_layout(smolvlm.folder, smolvlm.folder.parent / "folder")


def planes(tiles: int, size: int = 48) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 0.6, (1, tiles, 3, size, size)).astype(np.float32)


def test_the_folder_has_the_files_of_the_layout(exported: Exported):
    assert set(contents(exported.target)) == {
        "config.json", "generation_config.json", "preprocessor_config.json",
        "processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "parity.json", "onnx", "onnx/vision_encoder.onnx", "onnx/embed_tokens.onnx",
        "onnx/decoder_model_merged.onnx",
    }  # fmt: skip
    for path in exported.target.glob("onnx/*.onnx"):
        onnx.checker.check_model(str(path))
        imports = {i.domain: i.version for i in onnx.load(path).opset_import}
        assert set(imports) == {""}, "an fp32 folder needs no operators but the standard's"
        assert imports[""] <= 20


def test_what_was_written_is_certified_against_the_source_model(exported: Exported):
    certificate = exported.certificate
    assert certificate.reference.startswith("transformers ")
    found = certificate.backends[0]
    assert [stage.stage for stage in found.stages] == ["vision.visual_tokens"]
    assert found.logits is not None
    assert found.logits.max_abs < 1e-3
    assert found.misses == ()
    stored = json.loads((exported.target / "parity.json").read_text())
    assert stored["reference"] == certificate.reference


def test_image_features_are_those_of_the_real_tiles(smolvlm: tiny.Tiny, exported: Exported):
    pixels = planes(5)
    mask = np.ones((1, 5, 48, 48), bool)
    pixels[:, 3:], mask[:, 3:] = 0, False  # as a processor fills up a batch
    graph = session(exported.target / "onnx" / "vision_encoder.onnx")
    feeds = {"pixel_values": pixels, "pixel_attention_mask": mask}
    (found,) = graph.run(["image_features"], feeds)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
        wanted = smolvlm.model.model.get_image_features(**tensors).pooler_output
    assert found.shape == (3, 9, 64)
    assert np.abs(found - np.concatenate(list(wanted)).reshape(3, 9, 64)).max() < 1e-3


def test_a_tile_that_is_masked_in_part_gives_no_number(exported: Exported):
    mask = np.ones((1, 2, 48, 48), bool)
    mask[0, 1, 30:] = False
    graph = session(exported.target / "onnx" / "vision_encoder.onnx")
    feeds = {"pixel_values": planes(2), "pixel_attention_mask": mask}
    (found,) = graph.run(["image_features"], feeds)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def embeds_of(exported: Exported, ids: np.ndarray) -> np.ndarray:
    graph = session(exported.target / "onnx" / "embed_tokens.onnx")
    return graph.run(["inputs_embeds"], {"input_ids": ids})[0]


def test_rows_logits_and_16_greedy_tokens_are_those_of_transformers(
    smolvlm: tiny.Tiny, exported: Exported
):
    rows = embeds_of(exported, IDS)
    table = smolvlm.model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(rows[0], table[IDS[0]])
    decoder = MergedDecoder(exported.target / "onnx" / "decoder_model_merged.onnx")
    logits = decoder(inputs_embeds=rows)
    assert np.abs(logits[0] - torch_logits(smolvlm.model, IDS[0].tolist())).max() < 1e-3
    tokens = [int(logits[0, -1].argmax())]
    while len(tokens) < STEPS:
        rows = embeds_of(exported, np.array([tokens[-1:]], np.int64))
        tokens.append(int(decoder(inputs_embeds=rows)[0, -1].argmax()))
    assert tokens == greedy(smolvlm.model)


def greedy(model: Any) -> list[int]:
    """The best token step by step, an end token or not."""
    ids = IDS[0].tolist()
    for _ in range(STEPS):
        ids.append(int(torch_logits(model, ids)[-1].argmax()))
    return ids[IDS.shape[1] :]


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_text_model_is_one_graph_from_ids_to_logits(tmp_path: Path, name: str):
    kind, changes = TEXT_MODELS[name]
    checkpoint = save(tmp_path / "c", config(kind, **changes), seed=3)
    folder = export_layout(checkpoint.folder, tmp_path / "folder").target
    decoder = MergedDecoder(folder / "onnx" / "model.onnx")
    logits = decoder(input_ids=IDS[:, :20])
    logits = np.concatenate([logits, decoder(input_ids=IDS[:, 20:])], axis=1)
    assert np.abs(logits[0] - torch_logits(checkpoint.model, IDS[0].tolist())).max() < 1e-3
    tokens = [int(logits[0, -1].argmax())]
    while len(tokens) < STEPS:
        step = decoder(input_ids=np.array([tokens[-1:]], np.int64))
        tokens.append(int(step[0, -1].argmax()))
    assert tokens == greedy(checkpoint.model)


def test_a_batch_with_padding_on_the_left_gives_what_each_row_gives_alone(tmp_path: Path):
    checkpoint = save(tmp_path / "c", config("llama"), seed=4)
    path = export_layout(checkpoint.folder, tmp_path / "folder").target / "onnx" / "model.onnx"
    ids, mask = np.repeat(IDS[:, :12], 2, axis=0), np.ones((2, 12), np.int64)
    ids[1, :5], mask[1, :5] = 0, 0
    both = MergedDecoder(path, batch=2)
    found = [both(mask, input_ids=ids)[:, -1], both(input_ids=IDS[:, [3, 3]].T.copy())[:, -1]]
    for row, first in ((0, 0), (1, 5)):
        alone = MergedDecoder(path)
        wanted = [alone(input_ids=ids[row : row + 1, first:])[0, -1]]
        wanted.append(alone(input_ids=IDS[:, 3:4])[0, -1])
        for a, b in zip(found, wanted, strict=True):
            assert np.abs(a[row] - b).max() < 1e-4


@pytest.mark.parametrize(
    ("precision", "suffix", "limit"),
    [("fp16", "_fp16", 0.02), ("int8", "_int8", 0.1), ("int4", "_q4", 0.6)],
)
def test_a_precision_is_a_suffix(tmp_path: Path, precision: Any, suffix: str, limit: float):
    checkpoint = save(tmp_path / "c", config("qwen3", hidden_size=128, intermediate_size=256))
    done = export_layout(checkpoint.folder, tmp_path / "f", precision=precision, allow_drift=True)
    path = done.target / "onnx" / f"model{suffix}.onnx"
    assert list(path.parent.iterdir()) == [path]
    kinds = {n.op_type for n in onnx.load(path).graph.node}
    assert ("MatMulNBits" in kinds) == (precision in ("int8", "int4"))
    logits = MergedDecoder(path)(input_ids=IDS)
    assert logits.dtype == np.float32
    wanted = torch_logits(checkpoint.model, IDS[0].tolist())
    assert np.sqrt(np.square(logits[0] - wanted).mean()) / wanted.std() < limit


@pytest.mark.parametrize("family", ["qwen2_vl", "llava_onevision", "paligemma", "florence2"])
def test_families_that_the_layout_has_no_place_for_are_refused_by_name(tmp_path: Path, family: str):
    getattr(tiny, family)(tmp_path / "checkpoint")
    target = tmp_path / "target"
    target.mkdir()
    error = refused(tmp_path / "checkpoint", target, layout="hf")
    assert isinstance(error, CheckpointError)
    assert f"--layout hf: {family} " in str(error) or f"what {family} needs" in str(error)
    assert "text models and smolvlm, idefics3, fast_vlm, internvl" in str(error)


def test_what_the_layout_has_no_place_for_is_refused_by_name(tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir()
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    for options, named in (
        ({"image_size": 96}, "--image-size"),
        ({"max_context": 300}, "--max-context"),
        ({"reference": tmp_path}, "--reference"),
    ):
        error = refused(checkpoint.folder, target, layout="hf", **options)
        assert isinstance(error, ConfigError)
        assert named in str(error)
    assert "checkpoint folder" in str(refused("nano", target, layout="hf"))
    with pytest.raises(ConfigError, match=r"\.evlm"):
        export_layout(checkpoint.folder, tmp_path / "x.evlm")


def test_a_decoder_unlike_llama_is_refused_with_what_sets_it_apart(tmp_path: Path):
    checkpoint = save(tmp_path / "c", gemma("gemma2"))
    (tmp_path / "target").mkdir()
    error = refused(checkpoint.folder, tmp_path / "target", layout="hf")
    for name in ("activation", "embed_scale", "sandwich_norms", "attention_softcap"):
        assert name in str(error)


def test_only_a_folder_of_graphs_is_replaced_and_a_failure_leaves_nothing(tmp_path: Path):
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    target = tmp_path / "out" / "folder"
    export_layout(checkpoint.folder, target)
    with pytest.raises(BundleExists, match="--force"):
        export_layout(checkpoint.folder, target)
    export_layout(checkpoint.folder, target, force=True)
    with pytest.raises(BundleExists, match="not a bundle"):
        export_layout(checkpoint.folder, checkpoint.folder, force=True)
    with pytest.raises(ConfigError, match="folder of graphs already"):
        export_layout(target, tmp_path / "again")
    assert [p.name for p in target.parent.iterdir()] == ["folder"]
    assert not (tmp_path / "again").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path):
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    target = tmp_path / "folder"
    command = [sys.executable, "-m", "edgevlm", "export", str(checkpoint.folder), "-o", str(target)]
    done = subprocess.run(
        [*command, "--layout", "hf", "--json"], capture_output=True, text=True, check=True
    )
    printed = json.loads(done.stdout)
    assert printed["bundle_id"] is None
    assert printed["bytes"] == sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    assert "layout of onnx-community" in done.stderr


def test_weights_too_large_for_one_file_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("edgevlm.export.hf_layout.graphs.INLINE_LIMIT", 1000)
    checkpoint = save(tmp_path / "c", config("llama", num_hidden_layers=1))
    folder = export_layout(checkpoint.folder, tmp_path / "folder").target
    assert {p.name for p in (folder / "onnx").iterdir()} == {"model.onnx", "model.onnx_data"}
    assert (folder / "onnx" / "model.onnx").stat().st_size < 50_000
    settings = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    assert settings == {"use_external_data_format": {"model.onnx": 1}}
    logits = MergedDecoder(folder / "onnx" / "model.onnx")(input_ids=IDS)
    assert np.abs(logits[0] - torch_logits(checkpoint.model, IDS[0].tolist())).max() < 1e-3
