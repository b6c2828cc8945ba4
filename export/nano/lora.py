"""nano's trained adapter, merged into the language model's weights as they are read.

Source: LoRA (Hu et al., 2021), section 4.1, equation 3.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from edgevlm.errors import CheckpointError
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

FILE = "lora.safetensors"
_NAME = re.compile(r"^base_model\.model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight$")


class AdaptedWeights:
    """The weights of a decoder with nano's adapter on them: ``w + alpha / r * B @ A``.

    Args:
        base: the decoder as its package has it.
        folder: that holds ``FILE``, with ``r`` and ``lora_alpha`` among its metadata.

    Raises:
        CheckpointError: no such file, a damaged one, or an adapter of another model.
    """

    def __init__(self, base: WeightSource, folder: Path) -> None:
        self._base = base
        self._file = TrainedFile(folder / FILE)
        self._rank, self._scale = self._read_scale()
        self._modules = self._read_modules()

    def _read_scale(self) -> tuple[int, np.float32]:
        found = self._file.metadata
        try:
            rank, alpha = int(found["r"]), float(found["lora_alpha"])
        except (KeyError, TypeError, ValueError) as exc:
            raise CheckpointError(
                f"{self._file.path} does not say r and lora_alpha: {found!r:.200}"
            ) from exc
        if rank < 1 or not np.isfinite(alpha):
            raise CheckpointError(f"{self._file.path}: r {rank} and lora_alpha {alpha:g}")
        return rank, np.float32(alpha / rank)

    def _read_modules(self) -> dict[str, str]:
        """Every adapted weight's canonical name, and what its module is called in the file."""
        parts: dict[str, set[str]] = {}
        for name in self._file.names:
            found = _NAME.match(name)
            if found is None:
                raise CheckpointError(f"{self._file.path}: {name} is no part of a LoRA")
            parts.setdefault(found["module"], set()).add(found["part"])
        modules = {}
        for module, kinds in sorted(parts.items()):
            weight = f"{module}.weight"
            if kinds != {"A", "B"}:
                raise CheckpointError(f"{self._file.path}: {module} has only lora_{kinds.pop()}")
            if not self._base.has(weight):
                raise CheckpointError(
                    f"{self._file.path} changes {weight}, which the decoder does not have"
                )
            out, width = self._base.shape(weight)
            for kind, shape in (("A", (self._rank, width)), ("B", (out, self._rank))):
                name = f"base_model.model.model.{module}.lora_{kind}.weight"
                if (given := self._file.shape(name)) != shape:
                    raise CheckpointError(
                        f"{self._file.path}: {name} has the shape {given}, not {shape}"
                    )
            modules[weight] = f"base_model.model.model.{module}"
        return modules

    def has(self, name: str) -> bool:
        """True if the decoder has this weight."""
        return self._base.has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        return self._base.shape(name)

    def get(self, name: str) -> Float32:
        """The weight as float32, the adapter merged.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        weight = self._base.get(name)
        if name not in self._modules:
            return weight
        module, (out, width) = self._modules[name], weight.shape
        down = self._file.take(f"{module}.lora_A.weight", self._rank, width)
        up = self._file.take(f"{module}.lora_B.weight", out, self._rank)
        merged: Float32 = weight + self._scale * (up @ down)
        return merged

    def blocks(self, name: str) -> QuantBlocks | None:
        """As stored, unless the adapter changes it."""
        return None if name in self._modules else self._base.blocks(name)
