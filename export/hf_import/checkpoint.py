"""A folder of graphs read as a checkpoint whose weights are in the graphs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.checkpoint.tensors import Tensors
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

ALIASES = {"llava_qwen2": "fast_vlm"}


class GraphCheckpoint(Checkpoint):
    """Configuration, tokenizer and template of a folder of graphs; it has no tensors.

    Args:
        folder: where ``config.json`` is.
    """

    @property
    def model_type(self) -> str:
        """As in ``config.json``, under the name that transformers has for it."""
        return ALIASES.get(super().model_type, super().model_type)

    @cached_property
    def tensors(self) -> Tensors:
        """No values; but where the configuration unties the head, it is there."""
        text = self.config.get("text_config")
        flags = [c.get("tie_word_embeddings") for c in (self.config, text) if isinstance(c, dict)]
        return _InGraphs({"lm_head.weight"} if False in flags else set(), self.folder)

    @property
    def parameters(self) -> int:
        """Unknown before the graphs are read."""
        return 0

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """None: the graphs are."""
        return ()


class _InGraphs:
    """Tensors that nobody can read."""

    def __init__(self, names: set[str], folder: Path) -> None:
        self.names = frozenset(names)
        self._folder = folder

    def shape(self, name: str) -> tuple[int, ...]:
        """Never known."""
        raise CheckpointError(f"{self._folder} holds graphs; {name} cannot be read from them")

    def get(self, name: str) -> Float32:
        """Never there."""
        raise CheckpointError(f"{self._folder} holds graphs; {name} cannot be read from them")

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - there are none
        """None."""
        return None
