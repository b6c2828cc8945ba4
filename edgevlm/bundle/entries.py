"""The names and values that graphs, weights and engines are described with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgevlm.bundle.images import Strict
from edgevlm.tensors import DTYPES, TensorSpec

Precision = Literal["fp32", "fp16", "int8", "int4"]
Dtype = Annotated[str, Field(pattern=f"^({'|'.join(DTYPES)})$")]


class TensorEntry(Strict):
    """One graph input or output; a free dimension is a name."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]
    meaning: str = ""

    def spec(self) -> TensorSpec:
        """The validated value type."""
        return TensorSpec(name=self.name, dtype=self.dtype, shape=self.shape, meaning=self.meaning)
