"""What a graph takes and gives: names, dtypes, shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import ContractError

Array = NDArray[Any]
Float32 = NDArray[np.float32]

DTYPES: tuple[str, ...] = (
    "float32", "float16", "int64", "int32", "int8", "uint8", "bool",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One graph input or output.

    Args:
        name: the tensor's name in the graph.
        dtype: a numpy dtype name, one of ``DTYPES``.
        shape: a free dimension is a str, as in ``("tokens", 576)``.
        meaning: one phrase for the reader of the manifest; may be empty.

    Raises:
        ContractError: unknown dtype, or a dimension that is negative or an empty name.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str = ""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ContractError(f"{self.name!r}: dtype {self.dtype!r} is not one of {DTYPES}")
        for dim in self.shape:
            if dim == "" or (isinstance(dim, int) and dim < 0):
                raise ContractError(f"{self.name!r}: bad dimension {dim!r} in {self.shape}")

    @property
    def fixed(self) -> bool:
        """No dimension is free."""
        return all(isinstance(dim, int) for dim in self.shape)

    def check(self, value: Array) -> None:
        """Raise ContractError unless ``value`` has this dtype, rank and fixed dimensions."""
        fits = value.ndim == len(self.shape) and all(
            isinstance(want, str) or want == have
            for want, have in zip(self.shape, value.shape, strict=True)
        )
        if not fits or value.dtype != np.dtype(self.dtype):
            raise ContractError(
                f"{self.name!r} must be {self.dtype} {self.shape}, got {value.dtype} {value.shape}"
            )
