"""Checkpoints as they lie on disk: safetensors, configs, tokenizers, adapters."""

from edgevlm.export.checkpoint.files import finite, read_json, read_text, reason
from edgevlm.export.checkpoint.folder import Checkpoint, compiled
from edgevlm.export.checkpoint.generation import generation_rules
from edgevlm.export.checkpoint.safetensors import SafetensorsFile
from edgevlm.export.checkpoint.tensors import StoredTensors, Tensors, View

__all__ = [
    "Checkpoint",
    "SafetensorsFile",
    "StoredTensors",
    "Tensors",
    "View",
    "compiled",
    "finite",
    "generation_rules",
    "read_json",
    "read_text",
    "reason",
]
