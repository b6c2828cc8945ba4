"""A peft LoRA adapter, merged into a checkpoint's tensors as they are read.

Source: LoRA (Hu et al., 2021), section 4.1, equation 3; rank-stabilised scaling (Kalajdzievski,
2023), theorem 3.2; DoRA (Liu et al., 2024), equation 5.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import finite, read_json
from edgevlm.export.checkpoint.safetensors import SafetensorsFile
from edgevlm.export.checkpoint.tensors import Tensors
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

_PART = re.compile(
    r"^(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)(\.weight)?$"
)
_UNKNOWN = (
    "use_qalora", "use_bdlora", "kasa_config", "monteclora_config", "velora_config", "lora_bias",
    "target_parameters", "trainable_token_indices", "layer_replication", "alora_invocation_tokens",
)  # fmt: skip


class AdaptedTensors:
    """Tensors of a checkpoint with an adapter on them.

    Args:
        base: the checkpoint's tensors.
        folder: of the adapter: ``adapter_config.json`` and ``adapter_model.safetensors``.

    Raises:
        CheckpointError: no LoRA, a kind of it that is not known, or a module of the adapter that
            the checkpoint does not have, or has more than once.
    """

    def __init__(self, base: Tensors, folder: Path) -> None:
        self._base = base
        self._config = read_json(folder / "adapter_config.json")
        self._check(folder)
        path = folder / "adapter_model.safetensors"
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist; pickled adapters (.bin) are not read")
        self.path = path
        self._file = SafetensorsFile(path)
        self._parts: dict[str, dict[str, str]] = {}  # stored weight -> part -> name in the adapter
        self._modules: dict[str, str] = {}
        self._whole: dict[str, str] = {}  # stored tensor -> the adapter's own copy
        for name in self._file.tensors:
            plain = name.removeprefix("base_model.model.")
            if found := _PART.match(plain):
                module = found["module"]
                stored = _match(module, "weight", base.names, folder)
                self._parts.setdefault(stored, {})[found["part"]] = name
                self._modules[stored] = module
            else:
                # base_layer: an embedding that peft saved whole beside what it adds to it
                bare = plain.replace(".modules_to_save", "").replace(".base_layer", "")
                module, _, kind = bare.rpartition(".")
                self._whole[_match(module, kind, base.names, folder)] = name

    def _check(self, folder: Path) -> None:
        kind = self._config.get("peft_type")
        if kind != "LORA":
            raise CheckpointError(f"{folder} is a {kind} adapter; only LORA is merged")
        if odd := [key for key in _UNKNOWN if self._config.get(key)]:
            raise CheckpointError(
                f"{folder} uses {', '.join(odd)}, which is not known here: merge it with peft's "
                "merge_and_unload() and export the result"
            )

    @property
    def names(self) -> frozenset[str]:
        """Every stored name."""
        return self._base.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return self._base.shape(name)

    def get(self, name: str) -> Float32:
        """One tensor as float32, the adapter merged."""
        weight = self._whole_or_base(name)
        if name not in self._parts:
            return weight
        parts = {kind: self._file.get(n) for kind, n in self._parts[name].items()}
        return finite(name, self._merged(name, weight, parts))

    def _whole_or_base(self, name: str) -> Float32:
        if name not in self._whole:
            return self._base.get(name)
        value = finite(name, self._file.get(self._whole[name]))
        if value.shape != self._base.shape(name):
            raise CheckpointError(
                f"{self.path}: {name} has the shape {value.shape}; the checkpoint has "
                f"{self._base.shape(name)}"
            )
        return value

    def blocks(self, name: str) -> QuantBlocks | None:
        """As stored, unless the adapter changes it."""
        changed = name in self._parts or name in self._whole
        return None if changed else self._base.blocks(name)

    def _merged(self, name: str, weight: Float32, parts: Mapping[str, Float32]) -> Float32:
        embedding = "lora_embedding_A" in parts
        kinds = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        if lost := [kind for kind in kinds if kind not in parts]:
            raise CheckpointError(f"{self.path}: {self._modules[name]} lacks {', '.join(lost)}")
        down, up = (parts[kind].astype(np.float32) for kind in kinds)
        if weight.ndim == 4:  # a convolution over patches
            delta = (up.reshape(len(up), -1) @ down.reshape(len(down), -1)).reshape(weight.shape)
        else:
            delta = up @ down
            if embedding or self._config.get("fan_in_fan_out"):
                delta = delta.T
        if delta.shape != weight.shape:
            raise CheckpointError(
                f"{self.path}: {self._modules[name]} makes {delta.shape}; the checkpoint has "
                f"{weight.shape}"
            )
        merged = weight + np.float32(self._scaling(self._modules[name])) * delta
        if "lora_magnitude_vector" in parts:
            length = np.linalg.norm(merged.astype(np.float64), axis=1, keepdims=True)
            magnitude = parts["lora_magnitude_vector"].reshape(-1, 1)
            merged = magnitude / length.astype(np.float32) * merged
        return np.ascontiguousarray(merged, np.float32)

    def _scaling(self, module: str) -> float:
        rank = _pattern(self._config.get("rank_pattern"), module, self._config["r"])
        alpha = _pattern(self._config.get("alpha_pattern"), module, self._config["lora_alpha"])
        root = math.sqrt(rank) if self._config.get("use_rslora") else rank
        return float(alpha) / float(root)


def _pattern(patterns: Mapping[str, Any] | None, module: str, default: float) -> float:
    """The value of the first pattern that the module's name ends with, as peft matches them."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(default)


def _match(module: str, kind: str, stored: Iterable[str], folder: Path) -> str:
    """The stored tensor of a module, whose path transformers may write differently.

    The longest common ending decides; of several, the one that shares most words with the module.

    Raises:
        CheckpointError: none, or several that share equally many.
    """
    words = module.split(".")
    names = [name for name in stored if name.endswith(f".{kind}") or name == kind]
    for length in range(len(words), 0, -1):
        ending = ".".join([*words[-length:], kind])
        found = [name for name in names if name == ending or name.endswith(f".{ending}")]
        if not found:
            continue
        shared = {name: len(set(name.split(".")) & set(words)) for name in found}
        best = [name for name in found if shared[name] == max(shared.values())]
        if len(best) == 1:
            return best[0]
        raise CheckpointError(
            f"{folder}: the module {module} could be {', '.join(sorted(best)[:3])} of the "
            "checkpoint: merge the adapter with peft's merge_and_unload() and export the result"
        )
    raise CheckpointError(
        f"{folder}: the adapter changes {module}.{kind}, which the checkpoint does not have: is it "
        "of another base model?"
    )
