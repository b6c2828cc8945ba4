"""The tests' tiny checkpoints in widths that blocks of 32 divide.

The tests like odd widths, whose matrices stay in float32 whatever the precision: a table of
precisions needs others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from tests.export.encoders import tiny as encoders
from tests.export.encoders import tiny_sam, tiny_sam_clip
from tests.export.vlm import tiny as chats

VISION = {"hidden_size": 96, "embed_dim": 96, "intermediate_size": 96}
DAVIT = {"embed_dim": [32, 64, 96], "num_heads": [2, 2, 3], "num_groups": [2, 2, 3]}
ENCODERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (encoders.TEXT_CONFIG, {"hidden_size": 96, "intermediate_size": 96}),
    (
        encoders.VISION_CONFIG,
        {"hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 3},
    ),
    (
        tiny_sam.VISION,
        {"hidden_size": 96, "mlp_dim": 96, "output_channels": 64, "num_pos_feats": 32},
    ),
    (tiny_sam.PROMPTS, {"hidden_size": 64}),
    (tiny_sam.MASKS, {"hidden_size": 64, "mlp_dim": 96, "iou_head_hidden_dim": 64}),
    (tiny_sam_clip.TEXT, {"hidden_size": 64, "intermediate_size": 96}),
    (tiny_sam_clip.HEAD, {"intermediate_size": 96}),
]


@contextmanager
def even_widths() -> Iterator[None]:
    """Checkpoints made inside have them; FastViT's, made by timm, stay as they are."""
    with ExitStack() as stack:
        for settings, wider in ENCODERS:
            stack.enter_context(mock.patch.dict(settings, wider))
        saved = chats.save

        def save(folder: Any, config: Any, *rest: Any, **options: Any) -> Any:
            _widen(config)
            return saved(folder, config, *rest, **options)

        stack.enter_context(mock.patch.object(chats, "save", save))
        yield


def _widen(config: Any) -> None:
    vision, florence = config.vision_config, config.model_type == "florence2"
    if config.model_type == "qwen2_vl":  # hidden_size is the decoder's there
        vision.embed_dim = VISION["embed_dim"]
        return
    for key, value in (DAVIT if florence else VISION).items():
        if hasattr(vision, key):
            setattr(vision, key, value)
    if florence:
        config.text_config.encoder_ffn_dim = 96
    if config.model_type == "lfm2_vl":
        config.projector_hidden_size = 96
