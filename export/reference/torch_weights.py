"""A checkpoint's weights as torch tensors, for models that are written down here in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevlm.export.checkpoint.tensors import View

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-5


class Weights:
    """Weights by name as tensors, and the layers that need nothing but them."""

    def __init__(self, view: View) -> None:
        import torch  # here, so that the exporter imports without it

        self._view = view
        self._read = torch.tensor
        self.f: Any = torch.nn.functional

    def __call__(self, name: str) -> Tensor:
        """One weight."""
        return self._read(self._view.get(name))

    def has(self, name: str) -> bool:
        """True if it is there."""
        return self._view.has(name)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """A linear layer, with its bias if it has one."""
        bias = self(f"{name}.bias") if self.has(f"{name}.bias") else None
        return self.f.linear(x, self(f"{name}.weight"), bias)

    def norm(self, name: str, x: Tensor, eps: float = EPS) -> Tensor:
        """LayerNorm over the last axis."""
        return self.f.layer_norm(x, x.shape[-1:], self(f"{name}.weight"), self(f"{name}.bias"), eps)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """BatchNorm with the statistics of the training."""
        parts = [self(f"{name}.{p}") for p in ("running_mean", "running_var", "weight", "bias")]
        return self.f.batch_norm(x, *parts, training=False, eps=EPS)

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """A convolution that keeps the size, or halves it."""
        kernel = self(f"{name}.weight")
        bias = self(f"{name}.bias") if self.has(f"{name}.bias") else None
        groups, edge = x.shape[1] // kernel.shape[1], kernel.shape[-1] // 2
        return self.f.conv2d(x, kernel, bias, stride, edge, groups=groups)
