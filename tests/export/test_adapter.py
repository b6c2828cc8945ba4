"""LoRA adapters merged on reading, against peft's own merge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from tests.export.tiny import PROMPT, bundle_logits, config, export_to, save, tokenizer
from tests.export.vlm import tiny as vlm

ATTENTION = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION},
    "rank-stabilised": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "use_rslora": True},
    "patterns": {
        "r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 32},
    },
    "embedding and whole head": {
        "r": 4, "lora_alpha": 4, "target_modules": ["embed_tokens", "q_proj"],
        "modules_to_save": ["lm_head"],
    },
    "dora": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"], "use_dora": True},
}  # fmt: skip


def adapted(model: Any, folder: Path, **settings: Any) -> Any:
    """Train an adapter by drawing its weights, save it, and merge it by peft."""
    made = peft.get_peft_model(model, peft.LoraConfig(**settings))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_magnitude" in name:
                value.mul_(1.3)
            elif "lora_" in name or "modules_to_save" in name:
                value.normal_(0, 0.3)
    made.save_pretrained(folder)
    return made.merge_and_unload()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_merged_text_model_gives_the_logits_that_peft_gives(kind: str, tmp_path: Path):
    checkpoint = save(tmp_path / "base", config("llama"))
    merged = adapted(checkpoint.model, tmp_path / "adapter", **KINDS[kind])
    ids = tokenizer().encode(PROMPT).ids
    with torch.inference_mode():
        wanted = merged(torch.tensor([ids])).logits[0].numpy()
    bundle = export_to(tmp_path / "base", tmp_path / "bundle", adapter=tmp_path / "adapter")
    np.testing.assert_allclose(bundle_logits(bundle, ids), wanted, atol=1e-3)
    plain = export_to(tmp_path / "base", tmp_path / "plain")
    assert np.abs(bundle_logits(plain, ids) - wanted).max() > 0.1
    assert "adapter_model.safetensors" in bundle.manifest.source.parts


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("family", ["smolvlm", "qwen2_vl", "llava_onevision"])
def test_every_tensor_of_a_vision_language_model_is_the_one_that_peft_merges(
    family: str, tmp_path: Path
):
    made = getattr(vlm, family)(tmp_path / "base")
    targets = {"smolvlm": ["q_proj", "proj", "fc1"], "qwen2_vl": ["q_proj", "qkv", "fc2"],
               "llava_onevision": ["q_proj", "linear_1", "down_proj"]}[family]  # fmt: skip
    merged = adapted(made.model, tmp_path / "adapter", r=4, lora_alpha=8, target_modules=targets)
    merged.save_pretrained(tmp_path / "merged")
    wanted = load_file(tmp_path / "merged" / "model.safetensors")
    tensors = Checkpoint(tmp_path / "base", tmp_path / "adapter").tensors
    before = load_file(tmp_path / "base" / "model.safetensors")
    assert tensors.names == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(tensors.get(name), value, atol=1e-5, err_msg=name)
    changed = [n for n in wanted if np.abs(before[n] - wanted[n]).max() > 0.01]
    assert len(changed) >= 5


def spoil_config(**changes: Any) -> Callable[[Path], None]:
    """Change adapter_config.json."""

    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    """Rename modules in the adapter's weights."""

    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file({k.replace(old, new): v for k, v in load_file(path).items()}, path)

    return change


def drop(part: str) -> Callable[[Path], None]:
    """Leave tensors out of the adapter's weights."""

    def change(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file({k: v for k, v in load_file(path).items() if part not in k}, path)

    return change


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "another kind": (spoil_config(peft_type="IA3"), "is a IA3 adapter; only LORA"),
    "unknown option": (spoil_config(use_qalora=True), "uses use_qalora, which is not known"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "does not exist"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "does not exist"),
    "unknown module": (rename("q_proj", "w_proj"), "which the checkpoint does not have"),
    "half a module": (drop("lora_B"), "lacks lora_B"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", list(BAD))
def test_an_adapter_that_does_not_fit_is_refused_by_name(kind: str, tmp_path: Path):
    checkpoint = save(tmp_path / "base", config("llama"))
    adapted(checkpoint.model, tmp_path / "adapter", r=4, lora_alpha=8, target_modules=["q_proj"])
    spoil, message = BAD[kind]
    spoil(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=message):
        export_to(tmp_path / "base", tmp_path / "bundle", adapter=tmp_path / "adapter")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_of_another_width_is_refused(tmp_path: Path):
    checkpoint = save(tmp_path / "base", config("llama"))
    adapted(checkpoint.model, tmp_path / "adapter", r=4, lora_alpha=8, target_modules=["q_proj"])
    shutil.rmtree(tmp_path / "base")
    save(tmp_path / "base", config("llama", hidden_size=96, num_attention_heads=6))
    with pytest.raises(CheckpointError, match=r"makes \(64, 64\); the checkpoint has \(96, 96\)"):
        export_to(tmp_path / "base", tmp_path / "bundle", adapter=tmp_path / "adapter")


transformers.utils.logging.set_verbosity_error()
