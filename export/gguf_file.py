"""A GGUF file as a source of decoder weights, shape and tokenizer metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import finite, reason
from edgevlm.export.gguf_header import check_header
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Array, Float32

_NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ARCHITECTURES = ("llama", "qwen2", "qwen3")


class GgufFile:
    """Reads a GGUF file through a memory map.

    Args:
        path: the file.

    Raises:
        CheckpointError: missing, truncated, not GGUF, or of an architecture not in
            ``ARCHITECTURES``.
    """

    def __init__(self, path: Path) -> None:
        try:
            from gguf import GGUFReader
        except ImportError as exc:
            raise CheckpointError(
                "reading GGUF needs the gguf package: pip install 'edgevlm[nano]'"
            ) from exc
        self.path = path
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist")
        if path.stat().st_size < 24:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes: no GGUF file")
        try:
            check_header(path)
            reader = GGUFReader(path)
            self.metadata = {
                key: field.contents()
                for key, field in reader.fields.items()
                if not key.startswith("GGUF.")
            }
        except Exception as exc:  # the reader raises whatever numpy or struct does
            raise CheckpointError(
                f"{path} is truncated or not a GGUF file ({reason(exc)}); fetch it again"
            ) from exc
        self._tensors: Mapping[str, Any] = {t.name: t for t in reader.tensors}
        self.architecture = str(self.metadata.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            raise CheckpointError(
                f"{path}: architecture {self.architecture!r} is not one of {ARCHITECTURES}"
            )
        try:
            self.spec = self._read_spec()
        except (ValueError, TypeError, ArithmeticError) as exc:
            raise CheckpointError(f"{path}: the metadata make no decoder: {reason(exc)}") from exc

    def _value(self, key: str, default: Any = None) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise CheckpointError(f"{self.path} lacks the metadata {self.architecture}.{key}")
        return value

    def _read_spec(self) -> DecoderSpec:
        heads = int(self._value("attention.head_count"))
        hidden = int(self._value("embedding_length"))
        head_dim = int(self._value("attention.key_length", hidden // heads))
        if int(self._value("rope.dimension_count", head_dim)) != head_dim:
            raise CheckpointError(f"{self.path}: rotating a part of every head is not supported")
        scaling = str(self.metadata.get(f"{self.architecture}.rope.scaling.type", "none"))
        if scaling not in ("none", "linear"):
            raise CheckpointError(f"{self.path}: rope scaling {scaling!r} is not supported")
        if "rope_freqs.weight" in self._tensors:
            raise CheckpointError(f"{self.path}: per-frequency rope factors are not supported")
        return DecoderSpec(
            hidden_size=hidden,
            intermediate_size=int(self._value("feed_forward_length")),
            num_layers=int(self._value("block_count")),
            num_heads=heads,
            num_kv_heads=int(self._value("attention.head_count_kv", heads)),
            head_dim=head_dim,
            vocab_size=self.shape("embed_tokens.weight")[0],
            max_positions=int(self._value("context_length")),
            norm_eps=float(np.float32(self._value("attention.layer_norm_rms_epsilon"))),
            rope_theta=float(self._value("rope.freq_base", 10000.0)),
            rope_scaling=RopeScaling(
                type="linear", factor=float(self._value("rope.scaling.factor"))
            )
            if scaling == "linear"
            else None,
            tied_head="output.weight" not in self._tensors,
            qkv_bias="blk.0.attn_q.bias" in self._tensors,
            o_bias="blk.0.attn_output.bias" in self._tensors,
            mlp_bias="blk.0.ffn_down.bias" in self._tensors,
            qk_norm="blk.0.attn_q_norm.weight" in self._tensors,
        )

    def _tensor(self, name: str) -> Any:
        stored = _NAMES.get(name)
        if stored is None and name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            module, _, kind = rest.rpartition(".")
            stored = f"blk.{index}.{_LAYER_NAMES.get(module, module)}.{kind}"
        if stored is None or stored not in self._tensors:
            raise CheckpointError(f"{self.path} lacks the weight {name} (stored as {stored})")
        return self._tensors[stored]

    def has(self, name: str) -> bool:
        """True if the file holds this weight."""
        try:
            self._tensor(name)
        except CheckpointError:
            return False
        return True

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape as ``(out, in)``; GGUF stores the input axis first."""
        return tuple(int(n) for n in reversed(self._tensor(name).shape))

    def get(self, name: str) -> Float32:
        """The weight, dequantised, with rotary rows in half-split order."""
        from gguf.quants import dequantize

        tensor = self._tensor(name)
        try:
            with np.errstate(all="ignore"):  # damaged scales; ``finite`` tells
                value = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError as exc:
            raise CheckpointError(f"{self.path}: {name} has the type {tensor.tensor_type}") from exc
        value = finite(name, value.reshape(self.shape(name)))
        rows = self._row_order(name, len(value))
        return value if rows is None else value[rows]

    def blocks(self, name: str) -> QuantBlocks | None:
        """Q4_0 and Q8_0 as they are, without loss; None for every other type."""
        tensor = self._tensor(name)
        read = _LOSSLESS.get(tensor.tensor_type.name)
        if read is None:
            return None
        out, width = self.shape(name)
        blocks = read(np.asarray(tensor.data).reshape(out, width // 32, -1))
        rows = self._row_order(name, out)
        return blocks if rows is None else blocks.take_rows(rows)

    def _row_order(self, name: str, count: int) -> NDArray[np.int64] | None:
        """Where each row of a query or key matrix lies in the file.

        ggml stores Llama's rotary pairs next to each other; everybody else has the first halves
        of all pairs, then the second halves.
        """
        if self.architecture != "llama" or ".self_attn." not in name:
            return None
        if not any(part in name for part in (".q_proj.", ".k_proj.")):
            return None
        heads = count // self.spec.head_dim
        order = np.arange(count).reshape(heads, self.spec.head_dim // 2, 2)
        flat: NDArray[np.int64] = order.swapaxes(1, 2).reshape(-1)
        return flat


def _half(raw: Array) -> Float32:
    return np.ascontiguousarray(raw).view(np.float16)[..., 0].astype(np.float32)


def _q8_0(raw: Array) -> QuantBlocks:
    values = np.ascontiguousarray(raw[..., 2:]).view(np.int8).astype(np.int16) + 128
    return QuantBlocks(
        bits=8, values=values.astype(np.uint8), scales=_half(raw[..., :2]), zeros=None
    )


def _q4_0(raw: Array) -> QuantBlocks:
    packed = raw[..., 2:]
    values = np.concatenate([packed & 15, packed >> 4], axis=-1)
    return QuantBlocks(bits=4, values=values, scales=_half(raw[..., :2]), zeros=None)


_LOSSLESS: dict[str, Callable[[Array], QuantBlocks]] = {"Q8_0": _q8_0, "Q4_0": _q4_0}
