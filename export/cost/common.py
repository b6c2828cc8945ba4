"""What the cost sheets of bundles and of checkpoints have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import onnx

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.images import ImageSpec
from edgevlm.bundle.manifest import GraphEntry, Precision
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.bundle.visual_tokens import VisualTokens
from edgevlm.cost.sheet import GraphCost, PictureSetting
from edgevlm.errors import BundleCorrupt
from edgevlm.export.cost.precisions import table_bytes
from edgevlm.export.cost.sizes import decoder_cost, encoder_cost, vision_cost
from edgevlm.export.model_parts import ExportOptions

COUNTED = ("vision", "encoder", "decoder")
Language: TypeAlias = DecoderSpec | Seq2SeqSpec


def counted(
    name: str,
    model: onnx.ModelProto,
    entry: GraphEntry,
    image: ImageSpec | None,
    spec: Language | None,
) -> GraphCost:
    """One graph, by its name.

    Raises:
        CheckpointError: an operator or a dimension that there is no rule for.
    """
    if name == "vision":
        assert image is not None
        return vision_cost(model, entry, image)
    assert spec is not None
    if not isinstance(spec, Seq2SeqSpec):
        return decoder_cost(model, spec.max_positions)
    if name == "encoder":
        return encoder_cost(model, spec.source_capacity)
    return decoder_cost(model, spec.max_positions, spec.source_capacity // 2)


def load(path: Path) -> onnx.ModelProto:
    """A graph without its weights.

    Raises:
        BundleCorrupt: the file is none.
    """
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as exc:  # protobuf's own errors are not public
        raise BundleCorrupt(f"{path} is no ONNX graph: {exc}") from exc


def setting(
    image: ImageSpec | None,
    vision: GraphCost,
    entry: GraphEntry,
    options: ExportOptions,
    visual: VisualTokens | None,
) -> PictureSetting:
    """How pictures are encoded, from the encoder and what it gives; in its default budget."""
    assert image is not None
    shape = next((t.shape for t in entry.outputs if t.name == "visual_tokens"), ())
    rows = shape[-2] if len(shape) > 1 else 0
    if visual is not None and visual.budgets:
        rows = visual.count
    return PictureSetting(
        image_size=options.image_size,
        tokens=options.tokens,
        image=image,
        rows_per_tile=rows if isinstance(rows, int) else 0,
        vision=vision,
    )


def table(spec: Language) -> dict[Precision, int]:
    """Bytes of the embedding table, where it is not also the head."""
    return table_bytes(spec.vocab_size * spec.hidden_size, spec.hidden_size)


def cache(spec: Language | None) -> tuple[int, int]:
    """Numbers in the cache: for every token, and whatever the length."""
    if spec is None:
        return 0, 0
    if isinstance(spec, Seq2SeqSpec):
        return 2 * spec.decoder_layers * spec.hidden_size, 0
    columns = (spec.conv_kernel or 1) - 1
    state = len(set(spec.conv_layers)) * columns * spec.hidden_size
    return 2 * len(spec.attention_layers) * spec.kv_size, state


def parameters(graphs: Mapping[str, GraphCost], own: Mapping[Precision, int]) -> int:
    """Numbers in all graphs, and in the embedding table of its own."""
    return sum(cost.weights.count for cost in graphs.values()) + own.get("fp32", 0) // 4
