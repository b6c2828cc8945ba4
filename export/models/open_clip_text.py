"""The text encoder of open_clip's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.checkpoint.open_clip import OpenClipText
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.models.encoder import TextSide
from edgevlm.export.models.text_side import check_end, text_spec
from edgevlm.export.models.vlm import finish
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.towers.blocks import VitNames
from edgevlm.export.towers.text_tower import TextTowerSpec, write_text_tower
from edgevlm.export.towers.writer import TowerWriter
from edgevlm.export.vision_part import TowerOutputs

NAMES = VitNames(
    block="transformer.resblocks.{i}",
    norm1="ln_1",
    norm2="ln_2",
    query="attn.q",
    key="attn.k",
    value="attn.v",
    out="attn.out_proj",
    up="mlp.c_fc",
    down="mlp.c_proj",
    post_norm="ln_final",
)
# What open_clip's text transformer can be and is not here, with the value that it then has.
PLAIN = {
    "hf_model_name": None,
    "ls_init_value": None,
    "embed_cls": False,
    "pool_type": "argmax",
    "proj_type": "linear",
    "final_ln_after_pool": False,
    "block_type": None,
    "norm_kwargs": None,
    "act_kwargs": None,
    "use_pad_mask": False,
}


def text_side(checkpoint: Checkpoint, model: Mapping[str, Any]) -> TextSide:
    """The section of the manifest, and what writes the graph.

    Args:
        checkpoint: with tokenizer and weights.
        model: ``model_cfg`` of the configuration.

    Raises:
        CheckpointError: another kind of text encoder, or one that does not hold together.
    """
    text = model.get("text_cfg", {})
    if odd := {key: text[key] for key, plain in PLAIN.items() if text.get(key, plain) != plain}:
        raise CheckpointError(f"{checkpoint.folder}: a text encoder with {odd} is not known")
    causal = not text.get("no_causal_mask", False)
    weights = OpenClipText(checkpoint.view("text.", ""))
    projection = "text_projection"
    spec = TextTowerSpec(
        hidden_size=int(text.get("width", 512)),
        heads=int(text.get("heads", 8)),
        layers=int(text.get("layers", 12)),
        eps=1e-5,
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        names=NAMES,
        vocab_size=int(text.get("vocab_size", 49408)),
        context_length=int(text.get("context_length", 77)),
        causal=causal,
        masked=False,
        pool="largest",
        projection=projection,
        projection_bias=bool(text.get("proj_bias", False)),
        tokens="token_embedding.weight",
        positions="positional_embedding",
    )
    check_end(checkpoint, None)
    width = weights.shape(f"{projection}.weight")[0]
    section = text_spec(
        checkpoint,
        {
            "vocab_size": spec.vocab_size,
            "max_position_embeddings": spec.context_length,
            "pad_token_id": int(text.get("pad_id", 0)),
        },
        width=width,
        pad="",
        padding="longest" if causal else "context",  # it sees the padding, so all of it is there
        truncate=True,
        scores="softmax",
        template="a photo of a {}",
    )
    section = section.model_copy(update={"pad_token_id": int(text.get("pad_id", 0))})

    def build(graph: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:
        w = TowerWriter(graph, weights, plan)
        embeds, table = write_text_tower(w, spec, plan.of("token_embedding"))
        written = finish(graph, {"text_embeds": (embeds, ("batch", width))}, w)
        return TowerOutputs(
            weights={**written.weights, "tokens": table}, exceptions=written.exceptions
        )

    return TextSide(section, build)
