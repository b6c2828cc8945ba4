"""A bundle's vision graph behind the inputs and outputs of ``vision_encoder.onnx``.

The graph's own normalisation is cut off: processors of that layout give normalised planes. Where
the processor pads the number of tiles, ``pixel_attention_mask`` says which are there::

    pixel_values ── Reshape ── Compress ── encoder ── Where ── image_features
    pixel_attention_mask ── any of a tile ──┘           │
                         └─ all of a tile ── Compress ──┘

A tile of which only a part is masked has no meaning for this encoder, which was written for full
tiles: its features are NaN, so that nobody takes them for real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgevlm.errors import ExportError
from edgevlm.export.hf_import.model_file import ModelFile
from edgevlm.export.hf_import.vision import FEATURES, MASK, PIXELS

ROWS = "visual_tokens"
NORMALISATION = ("Cast", "Mul", "Sub", "Transpose")


def as_vision_encoder(path: Path, *, batched: bool) -> ModelFile:
    """The vision graph of a bundle, with the names and shapes of the layout.

    Args:
        path: of the graph, ``image`` uint8 ``(tiles, height, width, 3)`` in.
        batched: pictures come as ``(batch, tiles, 3, height, width)`` with a mask of their pixels.

    Raises:
        ExportError: the graph does not begin with its normalisation.
    """
    file = ModelFile(path)
    graph = file.graph
    planes, cut = _normalised(file)
    _, height, width, _ = file.inputs()[0].shape
    others = {o.name for o in graph.output} - {ROWS}
    body = [n for n in graph.node if n.output[0] not in cut | others]
    rows = next(o for o in file.outputs() if o.name == ROWS).shape
    del graph.node[:], graph.input[:], graph.output[:]
    size: list[Any] = [height, width]
    if batched:
        graph.input.extend(
            [
                _value(PIXELS, TensorProto.FLOAT, ["batch_size", "num_images", 3, *size]),
                _value(MASK, TensorProto.BOOL, ["batch_size", "num_images", *size]),
            ]
        )
        graph.initializer.extend(_constants(int(height), int(width)))
        graph.node.extend([*_real_tiles(planes), *body, *_whole_only()])
    else:
        graph.input.append(_value(PIXELS, TensorProto.FLOAT, ["num_images", 3, *size]))
        first = helper.make_node("Identity", [PIXELS], [planes], name="layout/planes")
        last = helper.make_node("Identity", [ROWS], [FEATURES], name="layout/features")
        graph.node.extend([first, *body, last])
    graph.output.append(_value(FEATURES, TensorProto.FLOAT, ["num_real_images", *rows[1:]]))
    file.forget_unused()
    return file


def _normalised(file: ModelFile) -> tuple[str, set[str]]:
    """The name of the normalised planes, and of every value on the way to them."""
    value, cut = "image", set()
    for op in NORMALISATION:
        takers = [n for n in file.graph.node if value in n.input]
        if len(takers) != 1 or takers[0].op_type != op:
            raise ExportError(f"{file.path.name} does not begin with {', '.join(NORMALISATION)}")
        value = takers[0].output[0]
        cut.add(value)
    return value, cut


def _constants(height: int, width: int) -> list[Any]:
    values = {
        "tiles": np.array([-1, 3, height, width], np.int64),
        "pixels": np.array([-1, height * width], np.int64),
        "axis": np.array([1], np.int64),
        "rows": np.array([-1, 1, 1], np.int64),
        "nan": np.array(np.nan, np.float32),
    }
    return [numpy_helper.from_array(v, f"layout/{n}") for n, v in values.items()]


def _real_tiles(planes: str) -> list[Any]:
    """Drop the tiles that the mask leaves out."""
    return [
        _node("Reshape", [PIXELS, "layout/tiles"], "all_tiles"),
        _node("Cast", [MASK], "mask", to=TensorProto.INT32),
        _node("Reshape", ["layout/mask", "layout/pixels"], "flat_mask"),
        _node("ReduceMax", ["layout/flat_mask", "layout/axis"], "any_int", keepdims=0),
        _node("ReduceMin", ["layout/flat_mask", "layout/axis"], "all_int", keepdims=0),
        _node("Cast", ["layout/any_int"], "any", to=TensorProto.BOOL),
        _node("Cast", ["layout/all_int"], "all", to=TensorProto.BOOL),
        _node("Compress", ["layout/all", "layout/any"], "whole", axis=0),
        helper.make_node(
            "Compress", ["layout/all_tiles", "layout/any"], [planes], name="layout/real", axis=0
        ),
    ]


def _whole_only() -> list[Any]:
    """Nothing but NaN where a tile is masked in part."""
    return [
        _node("Reshape", ["layout/whole", "layout/rows"], "whole_rows"),
        helper.make_node(
            "Where", ["layout/whole_rows", ROWS, "layout/nan"], [FEATURES], name="layout/features"
        ),
    ]


def _node(op: str, inputs: list[str], place: str, **attributes: Any) -> Any:
    name = f"layout/{place}"
    return helper.make_node(op, inputs, [name], name=name, **attributes)


def _value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)
