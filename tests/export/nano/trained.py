"""Weights as training leaves them, but drawn by chance: every path through them matters."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.scene_words import SceneWord, SceneWords
from edgevlm.export.nano.scene_part import WORDS
from edgevlm.export.nano_train.heads import NanoHeads

RANK, ALPHA = 4, 8
MODULES = {
    "self_attn.q_proj": ("hidden_size", "q_size"),
    "self_attn.k_proj": ("hidden_size", "kv_size"),
    "self_attn.v_proj": ("hidden_size", "kv_size"),
    "self_attn.o_proj": ("q_size", "hidden_size"),
    "mlp.gate_proj": ("hidden_size", "intermediate_size"),
    "mlp.up_proj": ("hidden_size", "intermediate_size"),
    "mlp.down_proj": ("intermediate_size", "hidden_size"),
}


def random_heads(seed: int = 0) -> NanoHeads:
    """Heads in which nothing is zero or one by construction, as half precision has them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = NanoHeads().eval()
    with torch.no_grad():
        for name, value in heads.named_parameters():
            spread = (
                0.3 if value.ndim < 2 else 0.02 if "place" in name else 0.5 * float(value.std())
            )
            value += spread * torch.randn(value.shape, generator=generator)
            value.copy_(value.half().float())
    return heads


def write_heads(folder: Path, heads: NanoHeads) -> None:
    """``heads.safetensors``, as training writes it."""
    state = {name: value.half().contiguous() for name, value in heads.state_dict().items()}
    save_file(state, folder / "heads.safetensors")


def random_lora(
    spec: DecoderSpec, layers: int | None = None, seed: int = 1
) -> dict[str, torch.Tensor]:
    """Tensors of an adapter on every matrix of the first ``layers`` layers; of all when None."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(spec.num_layers if layers is None else layers):
        for module, (width, out) in MODULES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            down = (RANK, getattr(spec, width))
            up = (getattr(spec, out), RANK)
            found[f"{name}.lora_A.weight"] = 0.02 * torch.randn(down, generator=generator)
            found[f"{name}.lora_B.weight"] = 0.02 * torch.randn(up, generator=generator)
    return {name: value.half() for name, value in found.items()}


def write_lora(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """``lora.safetensors``, as training writes it."""
    metadata = {"r": str(RANK), "lora_alpha": str(ALPHA)}
    save_file(tensors, folder / "lora.safetensors", metadata=metadata)


def write_words(folder: Path) -> None:
    """A few words that things may be called by."""
    words = SceneWords(
        names=("fox", "red fox", "banana"),
        words=(
            SceneWord(word="animal", forms=("animal", "animals"), kinds=("fox", "red fox")),
            SceneWord(word="banana", forms=("banana", "bananas"), kinds=("banana",)),
            SceneWord(word="fox", forms=("fox", "foxes"), kinds=("fox", "red fox")),
            SceneWord(word="red fox", forms=("red fox", "red foxes"), kinds=("red fox",)),
        ),
    )
    (folder / WORDS).write_text(words.model_dump_json(), "utf-8")
