"""The language model of nano as torch has it: base weights frozen, low-rank corrections trained.

Source: LoRA (Hu et al., 2022), section 4.1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from edgevlm.export.gguf_file import GgufFile

_PEFT = "base_model.model."


class LowRank(nn.Module):
    """``x W + alpha / r (x A) B``."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        low = functional.linear(x, (self.scale * self.lora_A).to(x.dtype))
        return functional.linear(x, self.weight) + functional.linear(low, self.lora_B.to(x.dtype))


def language_model(gguf: GgufFile, rank: int, alpha: float, dtype: torch.dtype) -> Any:
    """The model, every linear layer of its blocks with a low-rank correction.

    Args:
        gguf: of nano's package.
        rank: of the corrections.
        alpha: they are scaled by ``alpha / rank``.
        dtype: of the base weights and of what flows through.
    """
    spec = gguf.spec
    config = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        tie_word_embeddings=True,
        attn_implementation="eager",  # on a CPU in bfloat16, a third faster than the fused one
        max_position_embeddings=spec.max_positions,
    )
    model: Any = LlamaForCausalLM(config)
    state = {}
    for name in model.state_dict():
        if name == "lm_head.weight":
            continue
        state[name] = torch.as_tensor(gguf.get(name.removeprefix("model.")).copy())
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or [m for m in missing if m != "lm_head.weight"]:
        raise RuntimeError(f"the weights do not fit: {missing}, {unexpected}")
    model.tie_weights()
    model = model.to(dtype)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in model.model.layers:
        for owner in (layer.self_attn, layer.mlp):
            for name, child in list(owner.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(owner, name, LowRank(child, rank, alpha))
    return model


def corrections(model: Any) -> dict[str, nn.Parameter]:
    """What is trained of it, by the names that PEFT gives them."""
    return {
        _PEFT + name.replace("lora_A", "lora_A.weight").replace("lora_B", "lora_B.weight"): cast(
            nn.Parameter, parameter
        )
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }


def save_corrections(model: Any, path: Path, rank: int, alpha: float) -> None:
    """Write them in half precision, with rank and alpha in the header."""
    tensors = {
        n: p.detach().to("cpu", torch.float16).contiguous() for n, p in corrections(model).items()
    }
    save_file(tensors, path, {"r": str(rank), "lora_alpha": str(alpha), "format": "pt"})


def load_corrections(model: Any, path: Path) -> None:
    """Read what ``save_corrections`` wrote."""
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in corrections(model).items():
            parameter.copy_(tensors[name])
