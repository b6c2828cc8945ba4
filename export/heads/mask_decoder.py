"""SAM's mask decoder: prompt tokens and image cells attend to each other, and tokens become masks.

::

    tokens: [score] [mask 0..3] [points]     cells: image embedding + "no mask" embedding
    layer:  tokens among themselves ── tokens to cells ── MLP ── cells to tokens
    then:   tokens to cells;  cells ×4 in size;  mask = what each mask token's MLP gives · cells

Source: Segment Anything (Kirillov et al., 2023), appendix A, "Lightweight mask decoder".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevlm.export.towers.writer import Activation, TowerWriter
from edgevlm.tensors import Float32

FINAL_EPS = 1e-5
UPSCALE_EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskDecoderSpec:
    """Shape of the decoder.

    Args:
        hidden_size: width of tokens and cells.
        heads: of every attention.
        layers: how many.
        masks: of one prompt.
        score_depth: linear layers of the head that scores masks.
        activation: of the layers' MLPs.
        eps: of the layers' norms.
        side: cells along one side of the image embedding.
        positions: float32 ``(side^2, hidden_size)``, of the cells.
    """

    hidden_size: int
    heads: int
    layers: int
    masks: int
    score_depth: int
    activation: Activation
    eps: float
    side: int
    positions: Float32


def write_mask_decoder(
    w: TowerWriter, spec: MaskDecoderSpec, cells: str, points: str
) -> tuple[str, str]:
    """Write the decoder.

    Args:
        w: writer over its weights.
        spec: its shape.
        cells: float32 ``(1, hidden_size, side, side)``.
        points: float32 ``(prompts, n, hidden_size)``, prompt tokens.

    Returns:
        names of the outputs: masks, float32 ``(prompts, masks, 4 * side, 4 * side)`` logits, and
        scores, float32 ``(prompts, masks)``, the overlap that each mask is expected to have.
    """
    tokens = _tokens(w, spec, points)
    keys = _rows(w, spec, cells)
    where = w.tensor("positions", spec.positions[None])
    queries = tokens
    for i in range(spec.layers):
        queries, keys = _layer(w, spec, i, queries, keys, tokens, where)
    asked = w.node("Add", [queries, tokens], "final/queries")
    seen = w.node("Add", [keys, where], "final/keys")
    base = "transformer.final_attn_token_to_image"
    mixed = _attention(w, spec, base, asked, seen, keys, "final/attn")
    queries = w.node("Add", [queries, mixed], "final")
    queries = w.layer_norm(queries, "transformer.layer_norm_final_attn", FINAL_EPS, "final/norm")
    return _masks(w, spec, queries, _upscaled(w, spec, keys)), _scores(w, spec, queries)


def _tokens(w: TowerWriter, spec: MaskDecoderSpec, points: str) -> str:
    """The learned tokens before every prompt's points."""
    own = np.concatenate([w.source.get(f"{n}.weight") for n in ("iou_token", "mask_tokens")])
    count = w.node("Shape", [points], "tokens", start=0, end=1)
    shape = w.node("Concat", [count, w.ints(len(own), spec.hidden_size)], "tokens/shape", axis=0)
    rows = w.node("Expand", [w.tensor("tokens", own[None]), shape], "tokens")
    return w.node("Concat", [rows, points], "tokens", axis=1)


def _rows(w: TowerWriter, spec: MaskDecoderSpec, cells: str) -> str:
    """``(1, side^2, hidden_size)``, with what stands for "no mask was given"."""
    flat = w.node("Reshape", [cells, w.ints(1, spec.hidden_size, spec.side**2)], "cells/flat")
    rows = w.node("Transpose", [flat], "cells/rows", perm=[0, 2, 1])
    none = w.tensor("no_mask", w.source.get("no_mask_embed.weight"))
    return w.node("Add", [rows, none], "cells")


def _layer(
    w: TowerWriter, spec: MaskDecoderSpec, i: int, queries: str, keys: str, tokens: str, where: str
) -> tuple[str, str]:
    base, place = f"transformer.layers.{i}", f"layers.{i}"

    def norm(x: str, n: int) -> str:
        return w.layer_norm(x, f"{base}.layer_norm{n}", spec.eps, f"{place}/norm{n}")

    if i == 0:  # the tokens are their own positions still
        queries = _attention(w, spec, f"{base}.self_attn", queries, queries, queries,
                             f"{place}/self")  # fmt: skip
    else:
        asked = w.node("Add", [queries, tokens], f"{place}/self/queries")
        mixed = _attention(w, spec, f"{base}.self_attn", asked, asked, queries, f"{place}/self")
        queries = w.node("Add", [queries, mixed], f"{place}/self")
    queries = norm(queries, 1)
    asked = w.node("Add", [queries, tokens], f"{place}/to_image/queries")
    seen = w.node("Add", [keys, where], f"{place}/to_image/keys")
    mixed = _attention(w, spec, f"{base}.cross_attn_token_to_image", asked, seen, keys,
                       f"{place}/to_image")  # fmt: skip
    queries = norm(w.node("Add", [queries, mixed], f"{place}/to_image"), 2)
    up = w.linear(queries, f"{base}.mlp.lin1", f"{place}/mlp/up")
    active = w.activation(up, spec.activation, f"{place}/mlp")
    down = w.linear(active, f"{base}.mlp.lin2", f"{place}/mlp/down")
    queries = norm(w.node("Add", [queries, down], f"{place}/mlp"), 3)
    asked = w.node("Add", [queries, tokens], f"{place}/to_token/queries")
    mixed = _attention(w, spec, f"{base}.cross_attn_image_to_token", seen, asked, queries,
                       f"{place}/to_token")  # fmt: skip
    return queries, norm(w.node("Add", [keys, mixed], f"{place}/to_token"), 4)


def _attention(
    w: TowerWriter, spec: MaskDecoderSpec, base: str, q: str, k: str, v: str, place: str
) -> str:
    """Of ``(prompts, rows, hidden_size)``; what is the same for all prompts has one of them."""
    inner = w.source.shape(f"{base}.q_proj.weight")[0]
    width = inner // spec.heads
    parts = [
        w.heads(w.linear(x, f"{base}.{n}_proj", f"{place}/{n}"), spec.heads, width, f"{place}/{n}")
        for x, n in ((q, "q"), (k, "k"), (v, "v"))
    ]
    mixed = w.attention(parts[0], parts[1], parts[2], 1.0 / float(np.sqrt(width)), place)
    return w.linear(mixed, f"{base}.out_proj", f"{place}/out")


def _upscaled(w: TowerWriter, spec: MaskDecoderSpec, rows: str) -> str:
    """Cells at four times the resolution, float32 ``(prompts, hidden_size / 8, cells)``."""
    turned = w.node("Transpose", [rows], "upscale/planes", perm=[0, 2, 1])
    x = w.node("Reshape", [turned, w.ints(-1, spec.hidden_size, spec.side, spec.side)], "upscale")
    x = _doubled(w, x, "upscale_conv1")
    x = w.node("Transpose", [x], "upscale/last", perm=[0, 2, 3, 1])
    x = w.layer_norm(x, "upscale_layer_norm", UPSCALE_EPS, "upscale/norm")
    x = w.node("Transpose", [x], "upscale/first", perm=[0, 3, 1, 2])
    x = _doubled(w, w.activation(x, "gelu", "upscale/first"), "upscale_conv2")
    x = w.activation(x, "gelu", "upscale/second")
    return w.node("Reshape", [x, w.ints(0, 0, -1)], "upscale/flat")


def _doubled(w: TowerWriter, x: str, name: str) -> str:
    parts = [w.tensor(f"{name}.{p}", w.source.get(f"{name}.{p}")) for p in ("weight", "bias")]
    return w.node("ConvTranspose", [x, *parts], name, strides=[2, 2])


def _masks(w: TowerWriter, spec: MaskDecoderSpec, queries: str, cells: str) -> str:
    """Every mask token's product with the cells."""
    rows = []
    for n in range(spec.masks):
        token = w.node("Slice", [queries, w.ints(1 + n), w.ints(2 + n), w.ints(1)], f"masks.{n}")
        rows.append(_perceptron(w, f"output_hypernetworks_mlps.{n}", 3, token, f"masks.{n}"))
    products = w.node("MatMul", [w.node("Concat", rows, "masks", axis=1), cells], "masks")
    size = 4 * spec.side
    return w.node("Reshape", [products, w.ints(-1, spec.masks, size, size)], "masks")


def _scores(w: TowerWriter, spec: MaskDecoderSpec, queries: str) -> str:
    """The first token's opinion of every mask."""
    token = w.node("Slice", [queries, w.ints(0), w.ints(1), w.ints(1)], "scores")
    scores = _perceptron(w, "iou_prediction_head", spec.score_depth, token, "scores")
    return w.node("Reshape", [scores, w.ints(-1, spec.masks)], "scores")


def _perceptron(w: TowerWriter, base: str, depth: int, x: str, place: str) -> str:
    """Linear layers with a ReLU between them."""
    names = ["proj_in", *(f"layers.{n}" for n in range(depth - 2)), "proj_out"]
    for n, name in enumerate(names):
        x = w.linear(x, f"{base}.{name}", f"{place}/{n}")
        if n + 1 < len(names):
            x = w.activation(x, "relu", f"{place}/{n}")
    return x
