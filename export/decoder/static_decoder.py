"""What the lowerings over a cache of fixed length share: inputs, heads, the shape of a layer.

Everything is float32 but the products, which ``export/targets/typed.py`` casts, and the cache::

    x ── norm ── qkv ── Split ── [RMSNorm per head] ── rotation by positions ── q, k
                            └──────────────────────────────────────────────── v

``positions`` says where each row of the call stands in the cache; mask, rotation and the place of
writing are computed from it.
"""

from __future__ import annotations

import numpy as np

from edgevlm.errors import ConfigError
from edgevlm.export.decoder.layers import write_layers
from edgevlm.export.decoder.rope import rope_tables
from edgevlm.export.decoder.short_conv import declare_state
from edgevlm.export.decoder.static_cache import StaticCache, StaticOps
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.decoder.writing import DecoderWriter, Linears
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress


class StaticWriter(DecoderWriter):
    """A decoder over a static cache being written.

    Args:
        source: the model's weights.
        linears: writes the linear layers.
        ops: the lowering.
        cache: of keys and values.
    """

    def __init__(
        self,
        source: WeightSource,
        linears: Linears,
        ops: StaticOps,
        cache: StaticCache,
    ) -> None:
        plan = PrecisionPlan(default="fp32")
        super().__init__(cache.spec, source, plan, cache.graph, linears)
        self.ops = ops
        self.cache = cache

    def norm(self, x: str, weight: str, place: str) -> str:
        """RMSNorm over the last axis, in float32."""
        return self.ops.norm(self.cache, x, weight, place)

    def skip_norm(self, residual: str, skip: str, name: str, place: str) -> tuple[str, str]:
        """RMSNorm of ``residual + skip``; returns the normed value and the sum."""
        total = self.graph.node("Add", [residual, skip], f"{place}/sum") if skip else residual
        return self.norm(total, self.norm_weight(name), place), total

    def attention(self, layer: int, x: str) -> str:
        """What a layer attends to, ``(1, tokens, heads * head_dim)``."""
        g, spec, place = self.graph, self.spec, f"layers.{layer}/attn"
        base = f"layers.{layer}.self_attn"
        names = [f"{base}.{part}_proj" for part in "qkv"]
        both = self.linears.linear(x, names, f"{place}/qkv", bias=spec.qkv_bias)
        sizes = np.array([spec.q_size, spec.kv_size, spec.kv_size], np.int64)
        parts = [f"/{place}/Split/{part}" for part in "qkv"]
        g.node("Split", [both, g.constant("split.qkv", sizes)], place, outputs=parts, axis=-1)
        q, k, v = (
            self._heads(part, name, layer, f"{place}/{name}")
            for part, name in zip(parts, "qkv", strict=True)
        )
        scaled = g.node("Mul", [q, self.scalar(spec.attention_scale)], f"{place}/scaled")
        mixed = self.ops.attend(self.cache, layer, scaled, k, v)
        back = g.node("Transpose", [mixed], f"{place}/back", perm=[0, 2, 1, 3])
        flat = g.constant("shape.mixed", np.array([0, 0, spec.q_size], np.int64))
        return g.node("Reshape", [back, flat], f"{place}/back")

    def _heads(self, x: str, part: str, layer: int, place: str) -> str:
        """``(1, heads, tokens, head_dim)``, normed and rotated unless they are values."""
        g, spec = self.graph, self.spec
        count = spec.num_heads if part == "q" else spec.num_kv_heads
        shape = g.constant(f"shape.heads.{count}", np.array([0, 0, count, spec.head_dim]))
        x = g.node("Reshape", [x, shape], place)
        if part != "v" and spec.qk_norm:
            weight = self.norm_weight(f"layers.{layer}.self_attn.{part}_norm")
            x = self.norm(x, weight, f"{place}/norm")
        x = g.node("Transpose", [x], place, perm=[0, 2, 1, 3])
        if part == "v":
            return x
        return self.ops.rotate(self.cache, x, self._tables(layer), f"{place}/rotary")

    def _tables(self, layer: int) -> tuple[str, str]:
        if self.spec.mrope_section is not None:
            return "rope_cos", "rope_sin"
        local = self.spec.slides(layer) and self.spec.local_rope_theta is not None
        return ("rope.local.cos", "rope.local.sin") if local else ("rope.cos", "rope.sin")

    def activation(self, gate: str, place: str) -> str:
        """The MLP's non-linearity."""
        if self.spec.activation == "gelu_tanh":
            return self.graph.node("Gelu", [gate], f"{place}/gelu", approximate="tanh")
        sigmoid = self.graph.node("Sigmoid", [gate], f"{place}/silu")
        return self.graph.node("Mul", [gate, sigmoid], f"{place}/silu")

    def wanted_rows(self, x: str, place: str) -> str:
        """The rows that ``logit_rows`` names."""
        return self.graph.node("Gather", [x, "logit_rows"], place, axis=1)

    def watch(self, name: str, residual: str, skip: str) -> None:
        """Nothing: an engine would have to keep it."""


def write_static(w: StaticWriter, progress: Progress) -> None:
    """Declare what goes in and out, and write every node.

    Raises:
        ConfigError: a capacity over the sliding window of a model with prefix attention.
    """
    spec = w.spec
    if (
        spec.prefix_attention
        and spec.sliding_layers
        and w.cache.capacity > (spec.sliding_window or 0)
    ):
        raise ConfigError(
            f"a prompt that sees itself in both directions cannot be longer than the sliding "
            f"window of {spec.sliding_window}, and the cache holds {w.cache.capacity}"
        )
    _declare(w)
    write_layers(w, w, progress)


def _declare(w: StaticWriter) -> None:
    g, spec, hidden = w.graph, w.spec, w.spec.hidden_size
    g.input("inputs_embeds", "float32", (1, "tokens", hidden), "token and visual rows")
    g.input("positions", "int64", (1, "tokens"), "cache slot of every row, one behind the other")
    g.input("logit_rows", "int64", ("rows",), "which of this call's rows get logits")
    if spec.prefix_attention:
        g.input("visible", "int64", (1, "tokens"), "how many slots of the cache each row sees")
    _rope(w)
    if spec.deepstack_levels:
        shape = (spec.deepstack_levels, 1, "tokens", hidden)
        g.input("deepstack", "float32", shape, "added behind the first layers; 0 for text")
    g.output("logits", "float32", ("rows", spec.vocab_size), "before any sampling")
    cache = (1, spec.num_kv_heads, w.cache.capacity, spec.head_dim)
    for layer in range(spec.num_layers):
        if spec.convolves(layer):
            declare_state(w, layer)
        else:
            w.ops.declare_cache(w.cache, layer, cache)


def _rope(w: StaticWriter) -> None:
    g, spec = w.graph, w.spec
    if spec.mrope_section is not None:
        for name in ("rope_cos", "rope_sin"):
            g.input(name, "float32", (1, "tokens", spec.head_dim // 2), "of every row's position")
        return
    kinds = {spec.slides(i) and spec.local_rope_theta is not None for i in spec.attention_layers}
    for local in sorted(kinds):
        tables = rope_tables(spec, w.cache.capacity, local=local)
        for part, table in zip(("cos", "sin"), tables, strict=True):
            g.weight(f"{'rope.local' if local else 'rope'}.{part}", table)
