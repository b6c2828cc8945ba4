"""Find a CUDA binding that works on this machine."""

from __future__ import annotations

from collections.abc import Callable

from edgevlm.errors import BackendUnavailable
from edgevlm.runtime.backends.cuda.api import CudaApi
from edgevlm.runtime.backends.cuda.bindings import CudaBindings
from edgevlm.runtime.backends.cuda.cudart import Cudart
from edgevlm.runtime.backends.cuda.pycuda_driver import PyCuda

# The libraries of CUDA 12 and 13 may both be there, and only the driver's own works.
CHOICES: tuple[Callable[[int], CudaApi], ...] = (CudaBindings, Cudart, PyCuda)


def open_cuda(device: int = 0, choices: tuple[Callable[[int], CudaApi], ...] = CHOICES) -> CudaApi:
    """The first of ``choices`` that finds its library, a driver and the GPU.

    Raises:
        BackendUnavailable: none does; the message gives every reason.
    """
    reasons = []
    for choice in choices:
        try:
            return choice(device)
        except BackendUnavailable as exc:
            reasons.append(str(exc))
    raise BackendUnavailable(f"no usable GPU: {'; '.join(reasons)}")
