"""Decoders of every feature of a spec, with random weights, as bundles in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.bundle.decoder import DecoderSpec, RopeScaling
from edgevlm.bundle.manifest import Precision
from edgevlm.bundle.prompt import PromptSpec
from edgevlm.bundle.provenance import FileEntry
from edgevlm.export.decoder.part import DecoderPart
from edgevlm.export.manifest import make_manifest
from edgevlm.export.model_parts import ModelParts
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.quantize import QuantBlocks
from edgevlm.export.settings import INT4_EXCEPTIONS
from edgevlm.tensors import Float32

CAPACITY = 48
BASE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "vocab_size": 120, "max_positions": 256, "norm_eps": 1e-6,
    "rope_theta": 10000.0, "tied_head": False,
}  # fmt: skip
FEATURES: dict[str, dict[str, Any]] = {
    "llama": {"rope_scaling": RopeScaling(type="llama3", factor=8.0, original_max_positions=16)},
    "one layer, every head its own keys": {"num_layers": 1, "num_kv_heads": 4, "tied_head": True},
    "biases and norms of heads": {
        "qkv_bias": True, "o_bias": True, "mlp_bias": True, "qk_norm": True, "num_kv_heads": 1,
    },
    "heads of 24": {"head_dim": 24, "num_heads": 3, "num_kv_heads": 1, "hidden_size": 72},
    "gemma 2": {
        "activation": "gelu_tanh", "embed_scale": 8.0, "query_scale": 0.2, "sandwich_norms": True,
        "attention_softcap": 2.0, "logit_softcap": 9.0, "sliding_window": 7,
        "sliding_layers": (0, 2), "tied_head": True,
    },
    "gemma 3": {
        "activation": "gelu_tanh", "qk_norm": True, "sandwich_norms": True, "sliding_window": 5,
        "sliding_layers": (0, 1), "local_rope_theta": 100.0, "tied_head": True,
    },
    "prefix attention": {"prefix_attention": True, "activation": "gelu_tanh", "tied_head": True},
    "rows and columns": {"mrope_section": (2, 3, 3), "qkv_bias": True},
    "deepstack": {
        "mrope_section": (2, 3, 3), "mrope_interleaved": True, "deepstack_levels": 3,
        "qk_norm": True,
    },
    "short convolutions": {"conv_layers": (0, 2), "conv_kernel": 3, "qk_norm": True},
    "short convolutions with biases": {
        "conv_layers": (1,), "conv_kernel": 4, "conv_bias": True, "num_layers": 2,
    },
}  # fmt: skip


@dataclass(frozen=True)
class RandomWeights:
    """Any weight that is asked for, the same one every time."""

    spec: DecoderSpec

    def has(self, name: str) -> bool:
        """There is every one."""
        return bool(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that the decoder wants."""
        spec = self.spec
        sizes = {
            "q_proj": (spec.q_size, spec.hidden_size), "k_proj": (spec.kv_size, spec.hidden_size),
            "v_proj": (spec.kv_size, spec.hidden_size), "o_proj": (spec.hidden_size, spec.q_size),
            "gate_proj": (spec.intermediate_size, spec.hidden_size),
            "up_proj": (spec.intermediate_size, spec.hidden_size),
            "down_proj": (spec.hidden_size, spec.intermediate_size),
            "in_proj": (3 * spec.hidden_size, spec.hidden_size),
            "out_proj": (spec.hidden_size, spec.hidden_size),
            "embed_tokens": (spec.vocab_size, spec.hidden_size),
            "lm_head": (spec.vocab_size, spec.hidden_size),
            "conv": (spec.hidden_size, 1, spec.conv_kernel or 0),
            "q_norm": (spec.head_dim,), "k_norm": (spec.head_dim,),
        }  # fmt: skip
        matrix, _, kind = name.rpartition(".")
        found = sizes.get(matrix.rpartition(".")[2], (spec.hidden_size,))
        return found[:1] if kind == "bias" else found

    def get(self, name: str) -> Float32:
        """Norms around one, everything else around zero."""
        random = np.random.default_rng(hash_of(name))
        shape = self.shape(name)
        if len(shape) == 1 and name.endswith(".weight"):
            return random.uniform(0.5, 1.5, shape).astype(np.float32)
        return random.normal(0, 0.2, shape).astype(np.float32)

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002
        """None is quantised."""
        return None


class SignedBlocks(RandomWeights):
    """Every matrix in 4-bit blocks whose scales have both signs, as ggml's Q4_0 stores them."""

    def blocks(self, name: str) -> QuantBlocks | None:
        """Blocks of 32 that use all of their steps."""
        rows, width = (*self.shape(name), 0)[:2]
        if not width or name.startswith("embed") or "conv" in name:
            return None
        random = np.random.default_rng(hash_of(name))
        values = random.integers(0, 16, (rows, width // 32, 32)).astype(np.uint8)
        values[..., 0] = 0
        scales = random.uniform(0.01, 0.05, (rows, width // 32)).astype(np.float32)
        scales *= random.choice(np.array([-1, 1], np.float32), scales.shape)
        return QuantBlocks(bits=4, values=values, scales=scales, zeros=None)


def hash_of(name: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(name.encode()[-24:], "little")


def spec_of(feature: str) -> DecoderSpec:
    """The decoder of that feature."""
    return DecoderSpec(**(BASE | FEATURES[feature]))


def bundle_of(
    spec: DecoderSpec,
    folder: Path,
    precision: Precision = "fp32",
    *,
    symmetric: bool = False,
    capacity: int = CAPACITY,
    weights: RandomWeights | None = None,
    overrides: dict[str, Precision] | None = None,
) -> Bundle:
    """A bundle with a decoder and nothing else, written by the real lowering."""
    folder.mkdir(parents=True)
    plan = PrecisionPlan(
        default=precision,
        symmetric=symmetric,
        overrides={**(overrides or {}), **(INT4_EXCEPTIONS if precision == "int4" else {})},
    )
    part = DecoderPart(spec=spec, weights=weights or RandomWeights(spec), capacity=capacity)
    lowered = part.lower(folder, plan, Progress(part.steps))
    parts = ModelParts(
        name="tiny", family="tiny", license="none", precision=precision, weight_files=(),
        spec=spec, prompt=PromptSpec(chat_template=None, stop_token_ids=(0,)),
    )  # fmt: skip
    files = {p.name: FileEntry(size=p.stat().st_size, sha256="0" * 64) for p in folder.iterdir()}
    manifest = make_manifest(
        parts, precision, capacity, dict(lowered.graphs), dict(lowered.weights), files, {}, None
    )
    return Bundle(folder, manifest)
