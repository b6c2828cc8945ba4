"""Llama, and SmolLM2, which is one."""

from edgevlm.export.models.base import TextFamily

FAMILY = TextFamily(model_type="llama")
