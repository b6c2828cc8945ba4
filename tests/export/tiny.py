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
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from edgevlm.bundle import Bundle, open_bundle
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
    export(str(source), target, ExportOptions(**options))
    return open_bundle(target)


@contextmanager
def decoder(bundle: Bundle) -> Iterator[tuple[CachedDecoder, EmbeddingTable]]:
    """The bundle's decoder on the CPU, and its embedding table."""
    graph = open_backend("ort-cpu", threads=2, spin=False).load(
        bundle.path(bundle.manifest.graphs["decoder"].file)
    )
    made = CachedDecoder(graph, bundle.manifest.kv, bundle.manifest.decoder.vocab_size)
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
