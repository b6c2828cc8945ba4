"""Qwen3: RMSNorm over each query and key head; biases only where ``attention_bias`` says so."""

from edgevlm.export.models.base import TextFamily

FAMILY = TextFamily(model_type="qwen3", mlp_bias=False, qk_norm=True, head_dim=128)
