"""The element types of strongly typed graphs, of which numpy has not all."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import TensorProto

from edgevlm.export.graph import INLINE_BYTES, GraphBuilder
from edgevlm.tensors import Array

FLOAT: int = TensorProto.FLOAT
PRODUCTS: dict[str, int] = {
    "fp32": FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
    "int8": TensorProto.FLOAT16,
    "int4": TensorProto.FLOAT16,
    "kept": TensorProto.FLOAT16,
}
_NUMPY = {
    FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
}


def cache_type(products: int) -> int:
    """Of keys and values: float16 wherever products are not in float32."""
    return FLOAT if products == FLOAT else int(TensorProto.FLOAT16)


def write_floats(g: GraphBuilder, name: str, value: Array, kind: int) -> str:
    """A weight in one of the three float types.

    Args:
        g: the graph being built.
        name: of the weight.
        value: floats.
        kind: ONNX's number of the type.
    """
    cast = np.ascontiguousarray(value, _NUMPY[kind])
    if kind != TensorProto.BFLOAT16:
        g.weight(name, cast)
    elif cast.nbytes <= INLINE_BYTES:
        g.constant(name, cast)
    else:
        segment = g.data.write(cast.view(np.uint8))
        g.weight_at(name, segment, kind, cast.shape)
    return name


def write_int4(g: GraphBuilder, name: str, value: Array) -> str:
    """Signed integers of 4 bits, two a byte, the low one first.

    Args:
        g: the graph being built.
        name: of the weight.
        value: in [-8, 8), an even number of them.
    """
    low = value.reshape(-1).astype(np.uint8) & 15
    segment = g.data.write(low[0::2] | low[1::2] << 4)
    return g.weight_at(name, segment, TensorProto.INT4, value.shape)
