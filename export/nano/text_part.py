"""nano's text encoder: the mean of the language model's own word embeddings, projected.

::

    token ids ─ rows of the decoder's embedding table ─ mean ─ semantic head ─ text_embeds

The graph has no table: it reads that of ``decoder.onnx.data``, where it lies. Rows of 8-bit blocks
are dequantised behind the look-up, so that only rows in use are ever floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from edgevlm.bundle.manifest import GraphEntry, Precision, WeightEntry
from edgevlm.bundle.text import TextSpec
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.nano.semantic import ALIGNED, HIDDEN, Semantic
from edgevlm.export.progress import Progress
from edgevlm.tensors import Array, Float32

NAME = "text"
LONGEST = 64  # tokens of a text
PADDING = 0  # a token; the mask leaves it out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextPart:
    """Writes ``text.onnx`` over the table that the decoder's part has written.

    Args:
        head: the trained head.
    """

    head: Semantic
    steps: int = field(default=1, init=False)

    @property
    def sections(self) -> Mapping[str, Any]:
        """Of the manifest."""
        return {NAME: self._spec}

    @property
    def _spec(self) -> TextSpec:
        return TextSpec(
            context_length=LONGEST,
            width=ALIGNED,
            pad_token_id=PADDING,
            padding="longest",
            leading_space=True,
            scores="softmax",
            logit_scale=self.head.logit_scale,
            template="{}",
        )

    def lower(
        self, folder: Path, weights: Mapping[str, WeightEntry], progress: Progress
    ) -> Lowered:
        """Write the graph."""
        table = weights["embedding"]
        with DataFile(folder / f"{NAME}.onnx.data") as data:
            g = GraphBuilder(NAME, data)
            ids = g.input("input_ids", "int64", ("batch", "tokens"))
            mask = g.input("attention_mask", "int64", ("batch", "tokens"), "1 for tokens of a text")
            rows = _lower_rows(g, ids, table)
            last = g.constant("mask.axis", np.array([2], np.int64))
            one = g.node("Unsqueeze", [g.node("Cast", [mask], "mask", to=1), last], "mask")
            along = g.constant("words.axis", np.array([1], np.int64))
            shown = g.node("Mul", [rows, one], "words")
            total = g.node("ReduceSum", [shown, along], "words", keepdims=0)
            count = g.node("ReduceSum", [one, along], "words/count", keepdims=0)
            least = g.constant("words.least", np.float32(1))
            count = g.node("Max", [count, least], "words/count")
            mean = g.node("Div", [total, count], "words")
            found = self.head.lower_texts(g, mean)
            g.node("Identity", [found], "text_embeds", outputs=["text_embeds"])
            g.output("text_embeds", "float32", ("batch", ALIGNED), "of length 1")
            g.save(folder / f"{NAME}.onnx")
        progress.step("text encoder")
        entry = GraphEntry(
            file=f"{NAME}.onnx",
            lowering="onnx",
            opset=g.opset,
            precision=_precision(table),
            notes=("word embeddings are the decoder's, in its data file",),
            inputs=tuple(g.inputs),
            outputs=tuple(g.outputs),
        )
        return Lowered({NAME: entry})

    def reference(
        self, tokenizer: Tokenizer, table: Float32, labels: Sequence[str]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What the graph takes for some labels, and what it gives, in plain numpy.

        Args:
            tokenizer: of the language model.
            table: its word embeddings, float32 ``(vocab, HIDDEN)``.
            labels: at least one.
        """
        rows = [tokenizer.encode(f" {label}").ids for label in labels]
        ids = np.full((len(rows), max(map(len, rows))), PADDING, np.int64)
        mask = np.zeros_like(ids)
        for n, row in enumerate(rows):
            ids[n, : len(row)], mask[n, : len(row)] = row, 1
        words = np.stack([table[row].mean(0) for row in rows])
        given = {"input_ids": ids, "attention_mask": mask}
        return given, {"text_embeds": self.head.texts(words)}


def _lower_rows(g: GraphBuilder, ids: str, table: WeightEntry) -> str:
    """Rows of the table, float32 ``(batch, tokens, HIDDEN)``."""
    values = g.weight_at("embedding.values", table.values)
    rows = g.node("Gather", [values, ids], "embedding/values", axis=0)
    if table.scales is None:
        if table.values.dtype == "float32":
            return rows
        return g.node("Cast", [rows], "embedding/values", to=1)
    assert table.layout == "blocks"
    assert table.bits == 8
    zero = g.constant("embedding.zero", np.float32(128))
    steps = g.node("Cast", [rows], "embedding/values", to=1)
    steps = g.node("Sub", [steps, zero], "embedding/values")
    scales = g.weight_at("embedding.scales", table.scales)
    scale = g.node("Gather", [scales, ids], "embedding/scales", axis=0)
    if table.scales.dtype != "float32":
        scale = g.node("Cast", [scale], "embedding/scales", to=1)
    last = g.constant("embedding.axis", np.array([3], np.int64))
    scale = g.node("Unsqueeze", [scale, last], "embedding/scales")
    floats = g.node("Mul", [steps, scale], "embedding")
    whole = g.constant("embedding.shape", np.array([0, 0, HIDDEN], np.int64))
    return g.node("Reshape", [floats, whole], "embedding")


def _precision(table: WeightEntry) -> Precision:
    """Of the graph: that of its table."""
    if table.scales is not None:
        return "int8"
    return "fp16" if table.values.dtype == "float16" else "fp32"
