"""Qwen2 and Qwen2.5: biases on query, key and value only."""

from edgevlm.export.models.base import TextFamily

FAMILY = TextFamily(model_type="qwen2", qkv_bias=True, o_bias=False, mlp_bias=False)
