"""Tiny random vision-language checkpoints, saved the way people save theirs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.export.tiny import VOCAB, tokenizer

NAMES = {"smolvlm": "SmolVLM", "idefics3": "Idefics3"}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}IMAGE"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    """A checkpoint folder and the model it came from."""

    folder: Path
    model: Any


def words(extra: list[str]) -> Tokenizer:
    """The shared tiny tokenizer with further special tokens behind its vocabulary."""
    made = Tokenizer.from_str(tokenizer().to_str())
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in extra])
    return made


def randomize(model: Any) -> Any:
    """Norms, biases and tables random too, so that none of them can be left out unnoticed."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                value.normal_(0, 0.2)
            elif "position" in name or "newline" in name or "class_embedding" in name:
                value.normal_(0, 0.3)
            elif "lambda" in name or "layer_scale" in name:
                value.uniform_(0.3, 1.0)
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.3)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
    return model


def save(
    folder: Path,
    config: Any,
    extra_tokens: list[str],
    processor: dict[str, Any],
    marker: str,
    *,
    template: str | None = TEMPLATE,
    model_class: Any = transformers.AutoModelForImageTextToText,
    processor_class: str = "",
    named: dict[str, str] | None = None,
    **processor_options: Any,
) -> Tiny:
    """Write config, safetensors, tokenizer, image processor and chat template."""
    torch.manual_seed(0)
    config._attn_implementation = "eager"
    model = randomize(model_class.from_config(config).float().eval())
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=words(extra_tokens), bos_token="<|im_start|>", eos_token="<|im_end|>",
        extra_special_tokens={"image_token": marker, **(named or {})},
    ).save_pretrained(folder)  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    options = {"processor_class": processor_class, **processor_options}
    (folder / "processor_config.json").write_text(json.dumps(options))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template.replace("IMAGE", marker))
    return Tiny(folder, model)


def smolvlm(folder: Path, factor: int = 2, kind: str = "smolvlm") -> Tiny:
    """SmolVLM or Idefics3: tiles of 48 pixels in patches of 8, 3 heads of 20."""
    extra = ["<image>", "<fake_token_around_image>", "<global-img>"]
    extra += [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
    classes = {"smolvlm": transformers.SmolVLMConfig, "idefics3": transformers.Idefics3Config}
    config = classes[kind](
        text_config={"model_type": "llama", "vocab_size": VOCAB + len(extra), **TEXT},
        vision_config={
            "hidden_size": 60, "intermediate_size": 80, "num_hidden_layers": 2,
            "num_attention_heads": 3, "image_size": 48, "patch_size": 8,
            "initializer_range": 0.3,
        },
        scale_factor=factor,
        image_token_id=VOCAB,
        tie_word_embeddings=False,
        pad_token_id=None,
    )  # fmt: skip
    processor = {
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True,
        "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "resample": 1, "rescale_factor": 1 / 255,
        "max_image_size": {"longest_edge": 48}, "size": {"longest_edge": 144},
        "image_processor_type": f"{NAMES[kind]}ImageProcessor",
    }  # fmt: skip
    return save(folder, config, extra, processor, "<image>",
                processor_class=f"{NAMES[kind]}Processor",
                image_seq_len=(48 // 8 // factor) ** 2)  # fmt: skip


def llava_onevision(folder: Path) -> Tiny:
    """LLaVA-OneVision: Qwen2, SigLIP on tiles of 48 pixels in patches of 8, up to 2 tiles' rows."""
    extra = ["<image>", "<video>"]
    config = transformers.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", "vocab_size": VOCAB + len(extra) + 7, **TEXT},
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 60, "intermediate_size": 80,
            "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 48, "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_index=VOCAB,
        video_token_index=VOCAB + 1,
        image_grid_pinpoints=[[48, 96], [96, 48], [96, 96], [48, 144], [144, 48], [144, 144]],
        vision_aspect_ratio="anyres_max_2",
        tie_word_embeddings=False,
    )  # fmt: skip
    processor = {
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "resample": 3, "rescale_factor": 1 / 255, "size": {"height": 48, "width": 48},
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "image_processor_type": "LlavaOnevisionImageProcessor",
    }  # fmt: skip
    return save(folder, config, extra, processor, "<image>",
                processor_class="LlavaOnevisionProcessor", num_image_tokens=36,
                vision_feature_select_strategy="full",
                vision_aspect_ratio="anyres_max_2")  # fmt: skip


def internvl(folder: Path) -> Tiny:
    """InternVL: Qwen2, InternViT with a class token on tiles of 48 pixels, and a thumbnail.

    As in published settings the image processor does not cut, and the processor around it does.
    """
    extra = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": VOCAB + len(extra), **TEXT},
        vision_config={
            "hidden_size": 60, "intermediate_size": 80, "num_hidden_layers": 2,
            "num_attention_heads": 3, "image_size": [48, 48], "patch_size": [8, 8],
            "attention_bias": True, "use_absolute_position_embeddings": True,
            "layer_scale_init_value": 0.1,
        },
        image_token_id=VOCAB + 2,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )  # fmt: skip
    processor = {
        "crop_to_patches": False, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "max_patches": 6, "min_patches": 1, "resample": 3, "rescale_factor": 1 / 255,
        "size": {"height": 48, "width": 48}, "image_processor_type": "GotOcr2ImageProcessor",
    }  # fmt: skip
    return save(folder, config, extra, processor, "<IMG_CONTEXT>",
                processor_class="InternVLProcessor", image_seq_length=9,
                named={"start_image_token": "<img>", "end_image_token": "</img>",
                       "context_image_token": "<IMG_CONTEXT>",
                       "video_token": "<video>"})  # fmt: skip


def qwen2_vl(folder: Path) -> Tiny:
    """Qwen2-VL: native resolution, patches of 14 pixels in groups of four, rows and columns."""
    extra = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
    config = transformers.Qwen2VLConfig(
        text_config={
            "vocab_size": VOCAB + len(extra), **TEXT, "head_dim": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2, "embed_dim": 60, "hidden_size": 64, "num_heads": 3, "mlp_ratio": 2,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        vision_start_token_id=VOCAB, image_token_id=VOCAB + 1, vision_end_token_id=VOCAB + 2,
        video_token_id=VOCAB + 3, tie_word_embeddings=False,
    )  # fmt: skip
    processor = {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "min_pixels": 3136,
        "max_pixels": 28 * 28 * 24, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "resample": 3, "rescale_factor": 1 / 255,
        "image_processor_type": "Qwen2VLImageProcessor",
    }  # fmt: skip
    return save(folder, config, extra, processor, "<|image_pad|>",
                template=TEMPLATE.replace("IMAGE", "<|vision_start|>IMAGE<|vision_end|>"),
                processor_class="Qwen2VLProcessor")  # fmt: skip


def qwen2_5_vl(folder: Path) -> Tiny:
    """Qwen2.5-VL: windows of 4 by 4 patches, every other block over the whole picture."""
    extra = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCAB + len(extra), **TEXT, "head_dim": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 3, "hidden_size": 60, "out_hidden_size": 64, "num_heads": 3,
            "intermediate_size": 80, "patch_size": 14, "spatial_merge_size": 2,
            "temporal_patch_size": 2, "window_size": 56, "fullatt_block_indexes": [1],
        },
        vision_start_token_id=VOCAB, image_token_id=VOCAB + 1, vision_end_token_id=VOCAB + 2,
        video_token_id=VOCAB + 3, tie_word_embeddings=False,
    )  # fmt: skip
    return save(folder, config, extra, qwen_processor(14), "<|image_pad|>",
                template=TEMPLATE.replace("IMAGE", "<|vision_start|>IMAGE<|vision_end|>"),
                processor_class="Qwen2_5_VLProcessor")  # fmt: skip


def qwen3_vl(folder: Path) -> Tiny:
    """Qwen3-VL: a 5 by 5 position table, and deepstack from the first two of three blocks."""
    extra = ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"]
    text = {k: v for k, v in TEXT.items() if k != "tie_word_embeddings"}
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": VOCAB + len(extra), **text, "num_hidden_layers": 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
                                "mrope_section": [2, 3, 3], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 3, "hidden_size": 60, "out_hidden_size": 64, "num_heads": 3,
            "intermediate_size": 80, "patch_size": 16, "spatial_merge_size": 2,
            "temporal_patch_size": 2, "num_position_embeddings": 25,
            "deepstack_visual_indexes": [0, 1],
        },
        vision_start_token_id=VOCAB, image_token_id=VOCAB + 1, vision_end_token_id=VOCAB + 2,
        video_token_id=VOCAB + 3, tie_word_embeddings=False,
    )  # fmt: skip
    return save(folder, config, extra, qwen_processor(16, 0.5), "<|image_pad|>",
                template=TEMPLATE.replace("IMAGE", "<|vision_start|>IMAGE<|vision_end|>"),
                processor_class="Qwen3VLProcessor",
                named={"vision_start_token": "<|vision_start|>",
                       "vision_end_token": "<|vision_end|>",
                       "video_token": "<|video_pad|>"})  # fmt: skip


def qwen_processor(patch: int, grey: float | None = None) -> dict[str, Any]:
    """A native-resolution image processor with a budget of 24 merged tokens."""
    mean = [grey] * 3 if grey else [0.48145466, 0.4578275, 0.40821073]
    std = [grey] * 3 if grey else [0.26862954, 0.26130258, 0.27577711]
    side = 2 * patch
    return {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": mean, "image_std": std,
        "size": {"shortest_edge": side * side * 4, "longest_edge": side * side * 24},
        "patch_size": patch, "temporal_patch_size": 2, "merge_size": 2, "resample": 3,
        "rescale_factor": 1 / 255, "image_processor_type": "Qwen2VLImageProcessor",
    }  # fmt: skip


def paligemma(folder: Path, text: str = "gemma") -> Tiny:
    """PaliGemma: SigLIP on 40 pixels in patches of 8, Gemma."""
    more = {"gemma2": {"sliding_window": 4096, "query_pre_attn_scalar": 16}}
    size = {"hidden_size": 64, "pad_token_id": 0, "tie_word_embeddings": True}
    config = transformers.PaliGemmaConfig(
        text_config={"model_type": text, "vocab_size": VOCAB + 1, **TEXT, **size,
                     **more.get(text, {})},
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 60, "intermediate_size": 80,
            "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 40, "patch_size": 8,
            "projection_dim": 64, "vision_use_head": False,
        },
        image_token_index=VOCAB, hidden_size=64, projection_dim=64,
        eos_token_id=1, bos_token_id=0,
    )  # fmt: skip
    processor = {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
        "rescale_factor": 1 / 255, "size": {"height": 40, "width": 40}, "image_seq_length": 25,
        "image_processor_type": "SiglipImageProcessor",
    }  # fmt: skip
    return save(folder, config, ["<image>"], processor, "<image>", template=None,
                processor_class="PaliGemmaProcessor")  # fmt: skip


def lfm2_vl(folder: Path, *, bare: bool = False) -> Tiny:
    """LFM2-VL: SigLIP2 with a 5 by 5 position table; up to 20 tokens, or tiles of 48 pixels."""
    extra = ["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    extra += [f"<|img_row_{r}_col_{c}|>" for r in range(1, 7) for c in range(1, 7)]
    text = {k: v for k, v in TEXT.items() if k not in ("head_dim", "tie_word_embeddings")}
    config = transformers.Lfm2VlConfig(
        text_config={"model_type": "lfm2", "vocab_size": VOCAB + len(extra), **text,
                     "layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3,
                     "block_multiple_of": 8},
        vision_config={
            "model_type": "siglip2_vision_model", "hidden_size": 60, "intermediate_size": 80,
            "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 8,
            "num_patches": 25, "vision_use_head": False,
        },
        image_token_id=VOCAB, projector_hidden_size=76 if bare else 72, downsample_factor=2,
        projector_use_layernorm=not bare, projector_bias=not bare,
    )  # fmt: skip
    processor = {
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True,
        "do_rescale": True, "do_resize": True, "downsample_factor": 2, "encoder_patch_size": 8,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "max_image_tokens": 20,
        "min_image_tokens": 6, "max_tiles": 6, "min_tiles": 2, "max_pixels_tolerance": 2.0,
        "resample": 2, "rescale_factor": 1 / 255, "tile_size": 48, "use_thumbnail": not bare,
        "image_processor_type": "Lfm2VlImageProcessor",
    }  # fmt: skip
    return save(folder, config, extra, processor, "<image>", processor_class="Lfm2VlProcessor",
                named={"image_start_token": "<|image_start|>", "image_end_token": "<|image_end|>",
                       "image_thumbnail_token": "<|img_thumbnail|>"})  # fmt: skip


def florence2(folder: Path) -> Tiny:
    """Florence-2: 72 by 56 pixels in windows of 5 that do not fill up, 3 heads of 32.

    Its generation rules are those of the published checkpoints.
    """
    special = ["<image>", "<pad>", *(f"<loc_{n}>" for n in range(4))]
    config = transformers.Florence2Config(
        text_config={
            "model_type": "bart", "vocab_size": VOCAB + len(special) + 3, "d_model": 96,
            "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
            "decoder_attention_heads": 3, "encoder_ffn_dim": 76, "decoder_ffn_dim": 128,
            "max_position_embeddings": 160, "init_std": 0.15, "bos_token_id": 0, "eos_token_id": 1,
            "pad_token_id": VOCAB + 1, "decoder_start_token_id": 1, "forced_eos_token_id": 1,
        },
        vision_config={
            "depths": [1, 2, 1], "patch_size": [7, 3, 3], "patch_stride": [4, 2, 1],
            "patch_padding": [3, 1, 1], "patch_prenorm": [False, True, True],
            "embed_dim": [12, 24, 40], "num_heads": [3, 2, 5], "num_groups": [2, 3, 4],
            "window_size": 5, "projection_dim": 96, "max_temporal_embeddings": 4,
            "max_position_embeddings": 11, "initializer_range": 0.3, "drop_path_rate": 0.0,
        },
        image_token_id=VOCAB,
    )  # fmt: skip
    processor = {
        "do_center_crop": False, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "image_seq_length": 64, "resample": 3, "rescale_factor": 1 / 255,
        "size": {"height": 56, "width": 72}, "crop_size": {"height": 56, "width": 72},
        "image_processor_type": "CLIPImageProcessor",
    }  # fmt: skip
    made = save(folder, config, special, processor, "<image>", template=None,
                processor_class="Florence2Processor")  # fmt: skip
    rules = {
        "bos_token_id": 0, "decoder_start_token_id": 1, "early_stopping": True, "eos_token_id": 1,
        "forced_bos_token_id": 0, "forced_eos_token_id": 1, "no_repeat_ngram_size": 3,
        "num_beams": 3, "pad_token_id": VOCAB + 1,
    }  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(rules))
    return made


def fast_vlm(folder: Path, *, folded: bool = False) -> Tiny:
    """FastVLM: five narrow stages of FastViT on 128 pixels, with or without training branches.

    Needs timm: run this module as a script, with the oracles.
    """
    config = transformers.FastVlmConfig(
        text_config={"model_type": "qwen2", "vocab_size": VOCAB + 1, **TEXT},
        vision_config={
            "model_type": "timm_wrapper", "architecture": "fastvit_mci3", "num_classes": 0,
            "do_pooling": False, "global_pool": "", "hidden_size": 256,
            "model_args": {"inference_mode": folded, "layers": [1, 2, 1, 1, 1],
                           "embed_dims": [8, 16, 32, 64, 128], "mlp_ratios": [2] * 5},
        },
        image_token_index=VOCAB,
    )  # fmt: skip
    processor = {
        "crop_size": {"height": 128, "width": 128}, "do_center_crop": True,
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": [0.0] * 3, "image_std": [1.0] * 3, "resample": 3,
        "rescale_factor": 1 / 255, "size": {"shortest_edge": 128},
        "image_processor_type": "CLIPImageProcessor",
    }  # fmt: skip
    return save(folder, config, ["<image>"], processor, "<image>",
                processor_class="LlavaProcessor", patch_size=64, num_additional_image_tokens=0,
                vision_feature_select_strategy="full")  # fmt: skip


if __name__ == "__main__":
    import sys

    fast_vlm(Path(sys.argv[1]), folded=sys.argv[2] == "folded")
