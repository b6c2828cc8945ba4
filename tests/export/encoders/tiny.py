"""Tiny random encoders, saved the way people save theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.export.tiny import TEXT
from tests.export.vlm.tiny import randomize

VOCAB = 400
HALF = [0.5, 0.5, 0.5]
TEXT_CONFIG = {
    "vocab_size": VOCAB, "hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 3, "max_position_embeddings": 24,
}  # fmt: skip
VISION_CONFIG = {
    "hidden_size": 30, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 5,
    "image_size": 45, "patch_size": 9,
}  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """A checkpoint folder, its model, its Pillow image processor and its tokenizer."""

    folder: Path
    model: Any
    processor: Any
    tokenizer: Any = None
    texts: Callable[[list[str]], Any] | None = None


@cache
def clip_words() -> Tokenizer:
    """Byte pairs with CLIP's mark at the end of a word, trained on a chapter of a novel."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = made.pre_tokenizer.pre_tokenize_str(TEXT.read_text().lower())
    last = sorted({word[-1] for word, _ in split})
    trainer = trainers.BpeTrainer(  # ends of words are named: else their order is by chance
        vocab_size=VOCAB - 2, end_of_word_suffix="</w>", show_progress=False,
        special_tokens=[f"{letter}</w>" for letter in last], initial_alphabet=letters,
    )  # fmt: skip
    made.train([str(TEXT)], trainer)
    return made


def clip_tokenizer() -> Any:
    """The real class; begin and end are the last ids, as in the published vocabulary."""
    parsed = json.loads(clip_words().to_str())["model"]
    vocab = {**parsed["vocab"], "<|startoftext|>": VOCAB - 2, "<|endoftext|>": VOCAB - 1}
    merges = [tuple(pair) for pair in parsed["merges"]]
    return transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=24)


def save(folder: Path, model: Any, processor: Any, tokenizer: Any = None, **how: Any) -> Tiny:
    """Write config, safetensors, image processor and tokenizer.

    Args:
        folder: to write into.
        model: with random weights.
        processor: the Pillow one.
        tokenizer: of texts.
        how: texts are tokenized.
    """
    randomize(model.eval()).save_pretrained(folder)
    processor.save_pretrained(folder)
    if tokenizer is None:
        return Tiny(folder, model, processor)
    tokenizer.save_pretrained(folder)
    return Tiny(
        folder, model, processor, tokenizer, lambda t: tokenizer(t, return_tensors="pt", **how)
    )


def clip(folder: Path, end: int = VOCAB - 1, spread: float = 8.0) -> Tiny:
    """CLIP of 45 pixels in patches of 9, 5 heads of 6; ``end`` 2 is the old way to pool."""
    torch.manual_seed(1)
    config = transformers.CLIPConfig(
        text_config={**TEXT_CONFIG, "eos_token_id": end, "initializer_factor": spread},
        vision_config={**VISION_CONFIG, "initializer_factor": spread},
        projection_dim=22, logit_scale_init_value=2.7,
    )  # fmt: skip
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 45}, crop_size={"height": 45, "width": 45}
    )
    model = transformers.CLIPModel(config)
    return save(folder, model, processor, clip_tokenizer(), padding=True)


def clip_vocabulary(folder: Path) -> Tiny:
    """CLIP with its tokenizer as older folders have it: vocab.json and merges.txt."""
    made = clip(folder)
    (folder / "tokenizer.json").unlink()
    parsed = json.loads(made.tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(parsed["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in parsed["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    return made


def clip_vision(folder: Path) -> Tiny:
    """CLIP's vision tower alone, with its projection."""
    torch.manual_seed(2)
    config = transformers.CLIPVisionConfig(**VISION_CONFIG, projection_dim=22)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 45}, crop_size={"height": 45, "width": 45}
    )
    return save(folder, transformers.CLIPVisionModelWithProjection(config), processor)


def siglip(folder: Path, tokenizer: Any = None) -> Tiny:
    """SigLIP; its texts are padded to the whole context without a mask."""
    torch.manual_seed(3)
    config = transformers.SiglipConfig(
        text_config={**TEXT_CONFIG, "projection_size": VISION_CONFIG["hidden_size"]},
        vision_config=VISION_CONFIG,
    )
    processor = transformers.SiglipImageProcessorPil(size={"height": 45, "width": 45})
    model = siglip_scale(transformers.SiglipModel(config))
    return save(folder, model, processor, tokenizer or plain_tokenizer(), padding="max_length")


def siglip_sentencepiece(folder: Path) -> Tiny:
    """SigLIP as it is published: no tokenizer but spiece.model."""
    from tests.export import test_tokenizer_convert

    test_tokenizer_convert.siglip(folder)
    tokenizer = transformers.SiglipTokenizer.from_pretrained(folder, model_max_length=24)
    return siglip(folder, tokenizer)


def siglip_scale(model: Any) -> Any:
    """Scale and bias of the scores, in the range of trained ones."""
    with torch.no_grad():
        model.logit_scale.fill_(2.1)
        model.logit_bias.fill_(-3.2)
    return model


def plain_tokenizer() -> Any:
    """A fast tokenizer of no particular class, as SigLIP's is once it is converted."""
    made = Tokenizer.from_str(clip_words().to_str())
    made.add_special_tokens(["<pad>", "</s>"])
    end = made.token_to_id("</s>")
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", end)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="</s>", eos_token="</s>", model_max_length=24,
        model_input_names=["input_ids"],
    )  # fmt: skip


def siglip2(folder: Path) -> Tiny:
    """SigLIP 2 with NaFlex: up to 30 patches of 9, a table of 4x4; its own tokenizer."""
    torch.manual_seed(4)
    vision = {k: v for k, v in VISION_CONFIG.items() if k != "image_size"}
    config = transformers.Siglip2Config(
        text_config={**TEXT_CONFIG, "projection_size": VISION_CONFIG["hidden_size"]},
        vision_config={**vision, "num_patches": 16},
    )
    processor = transformers.Siglip2ImageProcessorPil(patch_size=9, max_num_patches=30)
    model = siglip_scale(transformers.Siglip2Model(config))
    return save(
        folder, model, processor, gemma_tokenizer(), padding="max_length", truncation=True,
        max_length=24,
    )  # fmt: skip


def gemma_tokenizer() -> Any:
    """SigLIP 2's own class over letters and bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["▁", ",", "."]
    pieces = [*special, *(f"<0x{n:02X}>" for n in range(256)), *letters, "▁a", "ph", "oto"]
    merges = [("▁", "a"), ("p", "h")]
    vocab = {piece: n for n, piece in enumerate(pieces)}
    made = transformers.Siglip2Tokenizer(vocab=vocab, merges=merges, model_max_length=24)
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    return made


def dinov2(folder: Path, swiglu: bool = False, registers: bool = False) -> Tiny:
    """DINOv2 with a table of 7x7 patches of 9, used at 45 pixels: 5x5."""
    torch.manual_seed(5)
    shape = {
        "hidden_size": VISION_CONFIG["hidden_size"], "num_hidden_layers": 2,
        "num_attention_heads": VISION_CONFIG["num_attention_heads"], "mlp_ratio": 2,
        "image_size": 63, "patch_size": 9, "use_swiglu_ffn": swiglu, "initializer_range": 0.2,
    }  # fmt: skip
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**shape, num_register_tokens=3)
        model = transformers.Dinov2WithRegistersModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**shape))
    with torch.no_grad():
        for name in ("cls_token", "register_tokens", "position_embeddings"):
            if hasattr(model.embeddings, name):
                getattr(model.embeddings, name).normal_(0, 0.3)
    processor = transformers.BitImageProcessorPil(
        size={"shortest_edge": 52}, crop_size={"height": 45, "width": 45},
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    return save(folder, model, processor)
