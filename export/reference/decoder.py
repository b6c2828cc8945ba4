"""A decoder-only language model in plain float32 numpy."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.tensors import Array, Float32


class NumpyDecoder:
    """Computes logits position by position, keys and values kept.

    Args:
        spec: shape of the model.
        source: the checkpoint; every weight is read once and kept as float32.

    Source: Llama (Touvron et al., 2023) section 2.2 for the block; RoFormer equation 34 for the
    rotation of half-split pairs; LFM2 (Liquid AI, 2025) for the gated short convolution.
    """

    def __init__(self, spec: DecoderSpec, source: WeightSource) -> None:
        self._spec = spec
        self._source = source
        self._kept: dict[str, Float32] = {}
        self._keys: list[Float32] = []
        self._values: list[Float32] = []
        self._columns: dict[int, Float32] = {}
        self.reset()

    def reset(self) -> None:
        """Forget every position."""
        empty = np.zeros((self._spec.num_kv_heads, 0, self._spec.head_dim), np.float32)
        self._keys = [empty] * self._spec.num_layers
        self._values = [empty] * self._spec.num_layers
        columns = np.zeros(((self._spec.conv_kernel or 1) - 1, self._spec.hidden_size), np.float32)
        self._columns = dict.fromkeys(self._spec.conv_layers, columns)

    def _weight(self, name: str) -> Float32:
        if name not in self._kept:
            self._kept[name] = self._source.get(name)
        return self._kept[name]

    def embed(self, token_ids: list[int]) -> Float32:
        """Embedding rows, float32 ``(tokens, hidden_size)``."""
        rows = self._weight("embed_tokens.weight")[token_ids]
        scaled: Float32 = rows * np.float32(self._spec.embed_scale)
        return scaled

    def forward(self, embeds: Float32) -> Float32:
        """Append ``embeds`` and give the logits at each of them.

        Args:
            embeds: float32 ``(tokens, hidden_size)``.

        Returns:
            float32 ``(tokens, vocab_size)``.
        """
        spec, x = self._spec, embeds
        for i in range(spec.num_layers):
            x = self.layer(i, x)
        head = "embed_tokens" if spec.tied_head else "lm_head"
        logits = self._linear(self._norm(x, "norm"), head)
        return _capped(logits, spec.logit_softcap)

    def layer(self, i: int, x: Float32) -> Float32:
        """The residual stream behind layer ``i``, from the one before it."""
        spec, base = self._spec, f"layers.{i}"
        mix = self._convolution if spec.convolves(i) else self._attention
        mixed = mix(i, self._norm(x, f"{base}.input_layernorm"))
        before_mlp = "post_attention_layernorm"
        if spec.sandwich_norms:
            mixed = self._norm(mixed, f"{base}.post_attention_layernorm")
            before_mlp = "pre_feedforward_layernorm"
        x = x + mixed
        h = self._norm(x, f"{base}.{before_mlp}")
        gate = self._linear(h, f"{base}.mlp.gate_proj", spec.mlp_bias)
        up = self._linear(h, f"{base}.mlp.up_proj", spec.mlp_bias)
        active = self._active(gate) * up
        out = self._linear(active, f"{base}.mlp.down_proj", spec.mlp_bias)
        if spec.sandwich_norms:
            out = self._norm(out, f"{base}.post_feedforward_layernorm")
        return x + out

    def _active(self, x: Float32) -> Float32:
        if self._spec.activation == "gelu_tanh":  # Hendrycks and Gimpel, 2016, section 2
            inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
            curved: Float32 = np.float32(0.5) * x * (1 + np.tanh(inner))
            return curved
        with np.errstate(over="ignore"):
            gated: Float32 = x / (1 + np.exp(-x))
        return gated

    def _linear(self, x: Float32, name: str, bias: bool = False) -> Float32:
        y: Float32 = x @ self._weight(f"{name}.weight").T
        return y + self._weight(f"{name}.bias") if bias else y

    def _norm(self, x: Float32, name: str) -> Float32:
        variance = np.mean(np.square(x), axis=-1, keepdims=True)
        scaled: Float32 = x / np.sqrt(variance + np.float32(self._spec.norm_eps))
        return scaled * self._weight(f"{name}.weight")

    def _heads(self, x: Float32, name: str, count: int) -> Float32:
        y = self._linear(x, name, self._spec.qkv_bias)
        heads: Float32 = y.reshape(len(x), count, self._spec.head_dim).swapaxes(0, 1)
        return heads

    def _attention(self, i: int, x: Float32) -> Float32:
        spec, base = self._spec, f"layers.{i}.self_attn"
        q = self._heads(x, f"{base}.q_proj", spec.num_heads)
        k = self._heads(x, f"{base}.k_proj", spec.num_kv_heads)
        v = self._heads(x, f"{base}.v_proj", spec.num_kv_heads)
        if spec.qk_norm:
            q, k = self._norm(q, f"{base}.q_norm"), self._norm(k, f"{base}.k_norm")
        past = self._keys[i].shape[1]
        positions = np.arange(past, past + len(x))
        k = np.concatenate([self._keys[i], self._rotate(k, positions, i)], axis=1)
        v = np.concatenate([self._values[i], v], axis=1)
        self._keys[i], self._values[i] = k, v
        behind = positions[:, None] - np.arange(k.shape[1])[None, :]
        hidden = behind < 0
        if spec.sliding_window is not None and spec.slides(i):
            hidden |= behind >= spec.sliding_window
        q = self._rotate(q, positions, i) * np.float32(spec.attention_scale)
        mixed = _attend(q, k, v, np.where(hidden, np.float32(-np.inf), np.float32(0)), spec)
        return self._linear(mixed, f"{base}.o_proj", spec.o_bias)

    def _convolution(self, i: int, x: Float32) -> Float32:
        spec, base = self._spec, f"layers.{i}.conv"
        projected = self._linear(x, f"{base}.in_proj", spec.conv_bias)
        before, after, value = np.split(projected, 3, axis=-1)
        inputs = np.concatenate([self._columns[i], before * value])
        kernel = self._weight(f"{base}.conv.weight")[:, 0]
        self._columns[i] = inputs[len(inputs) - kernel.shape[1] + 1 :]
        windows = np.lib.stride_tricks.sliding_window_view(inputs, kernel.shape[1], axis=0)
        y = np.einsum("twk,wk->tw", windows, kernel)
        if spec.conv_bias:
            y = y + self._weight(f"{base}.conv.bias")
        return self._linear(after * y, f"{base}.out_proj", spec.conv_bias)

    def _rotate(self, x: Float32, positions: Array, layer: int) -> Float32:
        half, spec = self._spec.head_dim // 2, self._spec
        frequencies = spec.theta(layer) ** (-np.arange(half, dtype=np.float64) / half)
        local = spec.slides(layer) and spec.local_rope_theta is not None
        scaling = None if local else spec.rope_scaling
        if scaling is not None:
            slow = frequencies / scaling.factor
            if scaling.type == "linear":
                frequencies = slow
            else:
                turns = scaling.original_max_positions * frequencies / (2 * np.pi)
                low, high = scaling.low_freq_factor, scaling.high_freq_factor
                mix = np.clip((turns - low) / (high - low), 0, 1)
                frequencies = (1 - mix) * slow + mix * frequencies
        angles = positions[:, None] * frequencies[None, :]
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _attend(q: Float32, k: Float32, v: Float32, mask: Float32, spec: DecoderSpec) -> Float32:
    """``softmax(q k^T + mask) v`` of ``(heads, tokens, head_dim)``, heads side by side."""
    group = spec.num_heads // spec.num_kv_heads
    mixed = np.empty_like(q)
    for head in range(spec.num_heads):  # one at a time: its scores stay in the cache
        scores = _capped(q[head] @ k[head // group].T, spec.attention_softcap)
        scores += mask
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        total = scores.sum(-1, keepdims=True)
        mixed[head] = (scores @ v[head // group]) / total
    merged: Float32 = mixed.swapaxes(0, 1).reshape(q.shape[1], -1)
    return merged


def _capped(x: Float32, cap: float | None) -> Float32:
    """``cap * tanh(x / cap)``."""
    if cap is None:
        return x
    bent: Float32 = np.float32(cap) * np.tanh(x / np.float32(cap))
    return bent
