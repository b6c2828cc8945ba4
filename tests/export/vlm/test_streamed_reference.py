"""Reference models whose weights stay in their files: what they compute is the same to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevlm.bundle.probe_case import cases
from edgevlm.export.reference import pretrained, transformers_vlm
from edgevlm.runtime.model import probe_inputs
from tests.export.test_adapter import adapted
from tests.export.tiny import export_to
from tests.export.vlm import tiny

FAMILIES = {
    "smolvlm": tiny.smolvlm,
    "qwen2_vl": tiny.qwen2_vl,
    "llava_onevision": tiny.llava_onevision,
    "internvl": tiny.internvl,
    "qwen2_5_vl": tiny.qwen2_5_vl,
    "qwen3_vl": tiny.qwen3_vl,
    "lfm2_vl": tiny.lfm2_vl,
    "paligemma": tiny.paligemma,
    "florence2": tiny.florence2,
}
FAST = ("smolvlm", "qwen2_vl")


def in_bfloat16(made: tiny.Tiny) -> int:
    """Save the model again as checkpoints are published; its weights in float32, bytes."""
    made.model.to(torch.bfloat16).save_pretrained(made.folder)
    return sum(p.numel() for p in made.model.parameters()) * 4


def answers(folder: Path, bundle: Path, root: Path) -> dict[str, bytes]:
    """What the reference writes beside the inputs of a bundle's probe."""
    shutil.copytree(bundle / "probe", root)
    inputs = {path.name for path in root.glob("*/*") if path.name[:3] in ("ids", "pix", "pic")}
    for path in root.glob("*/*.npy"):
        if path.name not in inputs:
            path.unlink()
    assert transformers_vlm.main([str(folder), str(root)]) == 0
    return {p.name: p.read_bytes() for p in root.glob("*/*.npy") if p.name not in inputs}


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in FAST else pytest.mark.slow) for f in FAMILIES]
)
def test_every_stage_logit_and_token_is_that_of_the_whole_model(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = in_bfloat16(FAMILIES[family](tmp_path / "checkpoint"))
    bundle = export_to(tmp_path / "checkpoint", tmp_path / "bundle").root
    assert probe_inputs.main([str(bundle)]) == 0
    wanted = answers(tmp_path / "checkpoint", bundle, tmp_path / "whole")
    assert {"logits.npy", "tokens.npy", "stage.hidden.last.npy"} < set(wanted)
    assert wanted["logits.npy"] == (cases(bundle / "probe")[0].folder / "logits.npy").read_bytes()
    monkeypatch.setattr(pretrained, "RESIDENT_BYTES", whole * 2 // 3)
    assert len(in_files(tmp_path / "checkpoint")) > 10
    assert answers(tmp_path / "checkpoint", bundle, tmp_path / "streamed") == wanted


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_adapter_is_merged_in_memory_and_the_checkpoint_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made = tiny.qwen2_vl(tmp_path / "checkpoint")
    whole = in_bfloat16(made)
    adapted(made.model, tmp_path / "adapter", r=4, lora_alpha=8, target_modules=["q_proj", "qkv"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(pretrained, "RESIDENT_BYTES", whole * 2 // 3)
    model = transformers_vlm.load_model(tmp_path / "checkpoint", tmp_path / "adapter")
    assert all(value.device.type == "cpu" for value in model.parameters())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def in_files(folder: Path) -> list[str]:
    """Weights that are not in memory while nothing runs."""
    model: Any = pretrained.load_pretrained("AutoModelForImageTextToText", folder)
    return [name for name, value in model.named_parameters() if value.device.type == "meta"]
