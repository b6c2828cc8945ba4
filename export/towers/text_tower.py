"""Text encoders: a transformer over token ids, one row of which becomes the text's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import TensorProto

from edgevlm.bundle.manifest import Precision, WeightEntry
from edgevlm.errors import CheckpointError
from edgevlm.export.towers.blocks import BlockSpec, write_blocks
from edgevlm.export.towers.pooling import row, unit_length
from edgevlm.export.towers.token_table import token_rows
from edgevlm.export.towers.writer import TowerWriter

NEVER = -65504.0  # added to a score that must not count; half precision holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTowerSpec(BlockSpec):
    """Shape of a text encoder, besides its blocks.

    Args:
        vocab_size: rows of the token table.
        context_length: rows of the position table.
        causal: a token sees those before it only (CLIP).
        masked: padding is told apart by an ``attention_mask``.
        pool: which row counts: the ``last``, that of the ``largest`` id (CLIP's end token, in
            checkpoints that do not name it), or the first that is ``end_token_id``.
        end_token_id: for ``pool="end"``.
        projection: the linear layer behind it.
        projection_bias: it has a bias.
        tokens: the token table.
        positions: the position table.
    """

    vocab_size: int
    context_length: int
    causal: bool
    masked: bool
    pool: Literal["last", "largest", "end"]
    end_token_id: int | None = None
    projection: str
    projection_bias: bool
    tokens: str = "embeddings.token_embedding.weight"
    positions: str = "embeddings.position_embedding.weight"


def write_text_tower(
    w: TowerWriter, spec: TextTowerSpec, precision: Precision
) -> tuple[str, WeightEntry]:
    """Declare the inputs and write the encoder.

    Args:
        w: writer over its weights.
        spec: its shape.
        precision: of the token table.

    Returns:
        name of the output, float32 ``(batch, width of the projection)``, rows of length 1; and
        where the token table lies.

    Raises:
        CheckpointError: tables that are not of the configuration's shape.
    """
    table = w.source.get(spec.positions)
    found = w.source.shape(spec.tokens), table.shape
    wanted = (spec.vocab_size, spec.hidden_size), (spec.context_length, spec.hidden_size)
    if found != wanted:
        raise CheckpointError(
            f"the text encoder's token table is {found[0]} and its position table {found[1]}; the "
            f"configuration makes them {wanted[0]} and {wanted[1]}"
        )
    ids = w.graph.input("input_ids", "int64", ("batch", "tokens"), "tokens, padded")
    rows, entry = token_rows(w, precision, ids, spec.tokens, "tokens")
    count = w.node("Shape", [ids], "count", start=1, end=2)
    used = [w.tensor("positions", table), w.ints(0), count, w.ints(0)]
    x = w.node("Add", [rows, w.node("Slice", used, "positions")], "positions")
    x = write_blocks(w, spec, x, _mask(w, spec, count))
    pooled = _pool(w, spec, x, ids)
    projected = w.linear(pooled, spec.projection, "projection", bias=spec.projection_bias)
    return unit_length(w, projected, "unit"), entry


def _mask(w: TowerWriter, spec: TextTowerSpec, count: str) -> str | None:
    """What is added to the attention scores; None where every token sees every other."""
    causal = padding = None
    if spec.causal:
        later = np.triu(np.ones((spec.context_length,) * 2, np.float32), 1) * np.float32(NEVER)
        both = w.node("Concat", [count, count], "mask/size", axis=0)
        cut = [w.tensor("causal", later), w.ints(0, 0), both, w.ints(0, 1)]
        causal = w.node("Slice", cut, "mask/causal")
    if spec.masked:
        given = w.graph.input("attention_mask", "int64", ("batch", "tokens"), "0 at padding")
        real = w.node("Cast", [given], "mask/real", to=TensorProto.FLOAT)
        one = w.graph.constant("one", np.array(1, np.float32))
        never = w.graph.constant("never", np.array(NEVER, np.float32))
        absent = w.node("Mul", [w.node("Sub", [one, real], "mask/absent"), never], "mask/absent")
        padding = w.node("Unsqueeze", [absent, w.ints(1, 2)], "mask/padding")
    if causal is not None and padding is not None:
        return w.node("Add", [causal, padding], "mask")
    return causal if causal is not None else padding


def _pool(w: TowerWriter, spec: TextTowerSpec, x: str, ids: str) -> str:
    """The row that stands for the text, ``(batch, hidden_size)``."""
    if spec.pool == "last":
        return row(w, x, -1, "pool")
    if spec.pool == "end":
        end = w.graph.constant("end", np.array(spec.end_token_id, np.int64))
        ids = w.node("Equal", [ids, end], "pool/end")
    numbers = w.node("Cast", [ids], "pool/numbers", to=TensorProto.FLOAT)
    first = w.node("ArgMax", [numbers], "pool/first", axis=1, keepdims=1)
    return w.node("GatherND", [x, first], "pool", batch_dims=1)
