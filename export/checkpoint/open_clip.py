"""Checkpoints as open_clip saves them: their configuration, and their text encoder's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import read_json
from edgevlm.export.checkpoint.tensors import View
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

CONFIG = "open_clip_config.json"
FAMILY = "mobileclip"  # the only family of such checkpoints that is read
_PACKED = ("attn.q", "attn.k", "attn.v")


def open_clip_config(folder: Path) -> dict[str, Any] | None:
    """The parsed ``open_clip_config.json``, and the family as ``model_type``; None without one.

    Raises:
        CheckpointError: it is damaged, or holds no ``model_cfg``.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found.get("model_cfg"), dict):
        raise CheckpointError(f"{path} has no model_cfg")
    return {**found, "model_type": FAMILY}


class Thirds:
    """Weights whose queries, keys and values are stored as one: a ``WeightSource`` of them apart.

    Args:
        view: of the checkpoint.
        packed: what they are called together, ``{}`` in place of ``weight`` and ``bias``.
    """

    def __init__(self, view: View, packed: str) -> None:
        self._view = view
        self._packed = packed

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        return self._view.has(self._stored(name)[0])

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it."""
        stored, third = self._stored(name)
        shape = self._view.shape(stored)
        return shape if third is None else (shape[0] // len(_PACKED), *shape[1:])

    def get(self, name: str) -> Float32:
        """The weight as float32."""
        stored, third = self._stored(name)
        value = self._view.get(stored)
        if third is None:
            return value
        rows = len(value) // len(_PACKED)
        part: Float32 = value[third * rows : (third + 1) * rows]
        return part

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - these are floats
        """Always None: nothing here is quantised."""
        return None

    def _stored(self, name: str) -> tuple[str, int | None]:
        """The stored name, and which third of it is meant."""
        for third, part in enumerate(_PACKED):
            for kind in ("weight", "bias"):
                if name.endswith(f".{part}.{kind}"):
                    base = name.removesuffix(f"{part}.{kind}")
                    return base + self._packed.format(kind), third
        return name, None


class OpenClipText(Thirds):
    """The weights of open_clip's text transformer.

    ``attn.q``, ``attn.k`` and ``attn.v`` are the thirds of ``attn.in_proj_weight`` and
    ``attn.in_proj_bias``; ``text_projection.weight`` is ``(out, in)``, however it is stored.

    Args:
        view: of the checkpoint, whose names begin with ``token_embedding``.
    """

    def __init__(self, view: View) -> None:
        super().__init__(view, "attn.in_proj_{}")
        self._turned = view.has("text_projection")

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        return self._is_turned(name) or super().has(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it."""
        if self._is_turned(name):
            return self._view.shape("text_projection")[::-1]
        return super().shape(name)

    def get(self, name: str) -> Float32:
        """The weight as float32."""
        return self._view.get("text_projection").T if self._is_turned(name) else super().get(name)

    def _is_turned(self, name: str) -> bool:
        return self._turned and name == "text_projection.weight"
