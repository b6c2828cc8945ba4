"""A two-layer language model of random weights, exported for real in a second."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.tensors import Float32

HIDDEN, HEADS, KV_HEADS, WIDTH, LAYERS, CONTEXT = 64, 4, 2, 96, 2, 700
START, END = 256, 257
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tokenizer() -> Tokenizer:
    """One token a byte, and the two marks of a chat turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = ("<|im_start|>", "<|im_end|>")
    made.add_special_tokens([AddedToken(m, special=True, normalized=False) for m in marks])
    return made


@cache
def weights() -> dict[str, Float32]:
    """The checkpoint's tensors, seeded."""
    random = np.random.default_rng(7)
    head = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": (END + 1, HIDDEN), "lm_head.weight": (END + 1, HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "self_attn.q_proj": (HIDDEN, HIDDEN),
                "self_attn.k_proj": (KV_HEADS * head, HIDDEN),
                "self_attn.v_proj": (KV_HEADS * head, HIDDEN),
                "self_attn.o_proj": (HIDDEN, HIDDEN),
                "mlp.gate_proj": (WIDTH, HIDDEN),
                "mlp.up_proj": (WIDTH, HIDDEN),
                "mlp.down_proj": (HIDDEN, WIDTH),
            }.items()
        }
    made = {n: random.normal(0, 0.2, s).astype(np.float32) for n, s in shapes.items()}
    norms = ["model.norm"]
    for layer in range(LAYERS):
        norms += [
            f"model.layers.{layer}.input_layernorm",
            f"model.layers.{layer}.post_attention_layernorm",
        ]
    made |= {f"{n}.weight": random.uniform(0.5, 1.5, HIDDEN).astype(np.float32) for n in norms}
    return made


def save_checkpoint(folder: Path) -> None:
    """A checkpoint folder as transformers would leave it."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    settings = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": END + 1,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "bos_token_id": START,
        "eos_token_id": END,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "LICENSE").write_text("for tests only\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer().save(str(folder / "tokenizer.json"))
    save_file(weights(), folder / "model.safetensors")


def export_tiny(folder: Path, options: ExportOptions | None = None) -> Bundle:
    """Checkpoint and bundle under ``folder``."""
    save_checkpoint(folder / "checkpoint")
    export(str(folder / "checkpoint"), folder / "tiny", options or ExportOptions())
    return open_bundle(folder / "tiny")
