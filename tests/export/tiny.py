"""Tiny random models, saved the way people save theirs, and what transformers makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import EdgeVLMError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.load import open_backend

torch.set_num_threads(2)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

Float32 = NDArray[np.float32]
VOCAB = 300
TEXT = Path(__file__).parent.parent / "data" / "public_domain.txt"
PROMPT = "Alice was beginning to get very tired of sitting by her sister on the bank."
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


@cache
def tokenizer() -> Tokenizer:
    """A byte-level BPE of 300 tokens, trained on a chapter of a novel."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train([str(TEXT)], trainer)
    return made


def config(kind: str, **changes: Any) -> Any:
    """A config of ``llama``, ``qwen2`` or ``qwen3``; ``changes`` on top of small defaults."""
    classes = {
        "llama": transformers.LlamaConfig,
        "qwen2": transformers.Qwen2Config,
        "qwen3": transformers.Qwen3Config,
    }
    settings = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": VOCAB,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    return classes[kind](**(settings | changes))


def random_model(settings: Any, seed: int = 0) -> Any:
    """A model whose norms and biases are random too, in float32."""
    torch.manual_seed(seed)
    settings._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(settings).float().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.uniform_(0.5, 1.5)
            elif name.endswith(".bias"):
                value.normal_(0, 0.3)
    return model


@dataclass(frozen=True)
class Checkpoint:
    """A folder as save_pretrained leaves it, and the model it came from."""

    folder: Path
    model: Any

    def config(self) -> dict[str, Any]:
        """The parsed config.json."""
        return dict(json.loads((self.folder / "config.json").read_text()))

    def change_config(self, drop: tuple[str, ...] = (), **changes: Any) -> None:
        """Rewrite config.json."""
        kept = {k: v for k, v in self.config().items() if k not in drop}
        (self.folder / "config.json").write_text(json.dumps(kept | changes))


def save(folder: Path, settings: Any, seed: int = 0, **how: Any) -> Checkpoint:
    """A checkpoint folder: config, safetensors, tokenizer."""
    model = random_model(settings, seed)
    model.save_pretrained(folder, **how)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), bos_token="<|im_start|>", eos_token="<|im_end|>"
    ).save_pretrained(folder)
    return Checkpoint(folder, model)


def export_to(source: Path | str, target: Path, **options: Any) -> Bundle:
    """Export and open."""
    export(str(source), target, chosen(options))
    return open_bundle(target)


def chosen(options: dict[str, Any]) -> ExportOptions:
    """Options as given; unless a test is about it, 4 bits are rounded to nearest, and what may
    drift is not repaired."""
    repair = {"repair_budget": 0} if options.get("allow_drift") else {}
    return ExportOptions(**{"calibrate": False, **repair, **options})


def refused(source: Path | str, folder: Path, **options: Any) -> EdgeVLMError:
    """Export into ``folder`` must fail with one line of ours, and change nothing there."""
    before = contents(folder)
    with pytest.raises(EdgeVLMError) as caught:
        export(str(source), folder / "bundle", chosen(options))
    assert contents(folder) == before
    assert "\n" not in str(caught.value)
    return caught.value


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file under a folder with its bytes, and every folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


@contextmanager
def decoder(bundle: Bundle) -> Iterator[tuple[CachedDecoder, EmbeddingTable]]:
    """The bundle's decoder on the CPU, and its embedding table."""
    graph = open_backend("ort-cpu", threads=2, spin=False).load(
        bundle.path(bundle.manifest.graphs["decoder"].file)
    )
    made = CachedDecoder(graph, bundle.manifest.kv, bundle.manifest.decoder)
    yield made, EmbeddingTable(bundle)
    made.close()
    graph.close()


def bundle_logits(bundle: Bundle, ids: list[int]) -> Float32:
    """Logits at every position, in one call."""
    with decoder(bundle) as (cached, table):
        return cached.append(table.rows(ids), logits=len(ids)).copy()


def torch_logits(model: Any, ids: list[int]) -> Float32:
    """Logits at every position, from transformers."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def torch_greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """What ``generate`` appends to ``ids``; it stops behind the end token."""
    prompt = torch.tensor([ids])
    with torch.inference_mode():
        done = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
        )
    return [int(t) for t in done[0, len(ids) :]]


def ggml_rows(matrix: Float32, head_dim: int) -> Float32:
    """Rows in the order of a llama GGUF: the two halves of every rotary pair side by side."""
    made = np.empty_like(matrix)
    half = head_dim // 2
    for row in range(len(matrix)):
        head, inside = divmod(row, head_dim)
        pair, part = inside % half, inside // half
        made[head * head_dim + 2 * pair + part] = matrix[row]
    return made


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model: Any, kind: str = "F32", **metadata: Any) -> dict[str, Float32]:
    """A model as a GGUF file of one tensor type (vectors stay F32).

    Args:
        path: of the file.
        model: of transformers.
        kind: a ggml type that the gguf package can quantise to.
        metadata: replaces what would be written; ``__`` stands for a dot, None leaves a key out.

    Returns:
        the weights as they can be read back, by their name in transformers.
    """
    import gguf

    settings = model.config
    quant = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, settings.model_type)
    writer.add_name("tiny")
    writer.add_context_length(settings.max_position_embeddings)
    writer.add_embedding_length(settings.hidden_size)
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(settings.num_attention_heads)
    writer.add_head_count_kv(settings.num_key_value_heads)
    writer.add_key_length(settings.head_dim)
    writer.add_value_length(settings.head_dim)
    writer.add_rope_dimension_count(settings.head_dim)
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_rope_freq_base(settings.rope_parameters["rope_theta"])
    writer.add_vocab_size(settings.vocab_size)
    words = tokenizer()
    tokens = [words.id_to_token(i) for i in range(VOCAB)]
    merges = json.loads(words.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if i < 2 else 1 for i in range(VOCAB)])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    for key, value in metadata.items():
        name = key.replace("__", ".")
        writer.kv_data[0].pop(name, None)
        if value is not None:
            kind_of_value = gguf.GGUFValueType.get_type(value)
            inner = gguf.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
            writer.add_key_value(name, value, kind_of_value, inner)
    readable: dict[str, Float32] = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and settings.tie_word_embeddings:
            continue
        value = parameter.detach().float().numpy()
        module, _, suffix = name.rpartition(".")
        stored = f"{GGUF_NAMES.get(module, module)}.{suffix}"
        if module.startswith("model.layers."):
            _, _, layer, rest = module.split(".", 3)
            stored = f"blk.{layer}.{GGUF_NAMES[rest]}.{suffix}"
        turned = settings.model_type == "llama" and module.endswith(("q_proj", "k_proj"))
        rows = ggml_rows(value, settings.head_dim) if turned else value
        if value.ndim == 1 or kind == "F32":
            writer.add_tensor(stored, np.ascontiguousarray(rows))
            readable[name] = value
            continue
        raw = gguf.quants.quantize(rows, quant)
        writer.add_tensor(stored, raw, raw_dtype=quant)
        read = np.asarray(gguf.quants.dequantize(raw, quant), np.float32).reshape(rows.shape)
        order = np.arange(len(rows))
        if turned:
            order = ggml_rows(order[:, None], settings.head_dim)[:, 0].argsort()
        readable[name] = read[order]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return readable


def with_weights(model: Any, weights: dict[str, Float32]) -> Any:
    """The model with some of its weights replaced."""
    state = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    lost, odd = model.load_state_dict(state, strict=False)
    assert not odd
    assert set(lost) <= {"lm_head.weight"}
    model.tie_weights()
    return model
