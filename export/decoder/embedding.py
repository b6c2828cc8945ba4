"""The table that token rows are looked up in."""

from __future__ import annotations

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.manifest import WeightEntry
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.quantize import BLOCK, quantize_symmetric


def embedding_table(
    spec: DecoderSpec | Seq2SeqSpec,
    source: WeightSource,
    plan: PrecisionPlan,
    data: DataFile,
    lowered: dict[str, WeightEntry],
    name: str = "embed_tokens",
) -> WeightEntry:
    """The table that the runtime looks token rows up in.

    A tied head already lies in the data file row by row, and is shared; otherwise the table is
    written beside it: 8-bit blocks for quantised bundles, floats else.
    """
    if spec.tied_head:
        return lowered[name]
    if plan.default in ("int8", "int4") and spec.hidden_size % BLOCK == 0:
        blocks = source.blocks(f"{name}.weight")
        if blocks is None or blocks.bits != 8 or blocks.zeros is not None:
            blocks = quantize_symmetric(source.get(f"{name}.weight"), 8)
        return WeightEntry(
            layout="blocks",
            bits=8,
            block_size=blocks.block_size,
            values=data.write(blocks.packed_values()),
            scales=data.write(blocks.scales),
        )
    table = source.get(f"{name}.weight").astype(plan.table_dtype)
    return WeightEntry(layout="plain", values=data.write(table))
