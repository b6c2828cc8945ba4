"""A published vision encoder behind the inputs and outputs of a bundle's vision graph.

::

    image ── Cast ── Mul ── Sub ── Transpose ── [Reshape] ── pixel_values ─┐
      └ Shape ── [Expand of True] ── pixel_attention_mask ─────────────────┴─ encoder ── Reshape
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgevlm.bundle.images import Fit, Idefics3Tiles, ImageSpec, InternVLTiles
from edgevlm.bundle.manifest import TensorEntry
from edgevlm.errors import CheckpointError
from edgevlm.export.hf_import.model_file import ModelFile
from edgevlm.export.models.image_config import Triple

PIXELS, MASK, FEATURES = "pixel_values", "pixel_attention_mask", "image_features"


def wrap_vision(file: ModelFile, image: ImageSpec, mean: Triple, std: Triple, hidden: int) -> None:
    """Let the graph take uint8 tiles and give visual rows.

    Args:
        file: the encoder, ``pixel_values`` in and ``image_features`` out; changed in place.
        image: how pictures are cut.
        mean: of each channel, of pixels in [0, 1].
        std: likewise.
        hidden: width of the rows.

    Raises:
        CheckpointError: inputs or outputs of another kind, or tiles of another size.
    """
    inputs = {t.name: t for t in file.inputs()}
    outputs = {t.name: t for t in file.outputs()}
    if PIXELS not in inputs or inputs.keys() - {PIXELS, MASK} or FEATURES not in outputs:
        raise CheckpointError(
            f"{file.path} takes {', '.join(inputs)} and gives {', '.join(outputs)}; wanted are "
            f"{PIXELS}, {MASK} and {FEATURES}"
        )
    size = _size(image)
    _check(file, inputs[PIXELS], size)
    before, after = _before(inputs), _after(outputs[FEATURES])
    file.free("image", "visual_tokens")
    graph = file.graph
    mask = inputs[MASK].dtype if MASK in inputs else "bool"
    graph.initializer.extend(_constants(mean, std, size, hidden, mask))
    body = list(graph.node)
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*before, *body, *after])
    tiles = ["tiles", *size, 3]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, tiles))
    shape = ["tiles", "rows", hidden]
    graph.output.append(helper.make_tensor_value_info("visual_tokens", TensorProto.FLOAT, shape))


def _size(image: ImageSpec) -> tuple[int, int]:
    policy = image.policy
    if isinstance(policy, Fit):
        return policy.height, policy.width
    if isinstance(policy, Idefics3Tiles | InternVLTiles):
        return policy.tile, policy.tile
    raise CheckpointError(
        f"graphs that take pictures as {policy.kind} are not imported: what they need beside "
        f"{PIXELS} is not in this layout; export the checkpoint itself"
    )


def _check(file: ModelFile, pixels: TensorEntry, size: tuple[int, int]) -> None:
    """Hold the declared shape against the tiles that the processor makes."""
    wanted = ("tiles", 3, *size)
    shape = pixels.shape[1:] if len(pixels.shape) == 5 else pixels.shape
    fits = len(shape) == 4 and not isinstance(shape[0], int)
    if not fits or any(isinstance(a, int) and a != b for a, b in zip(shape, wanted, strict=True)):
        raise CheckpointError(
            f"{file.path}: {PIXELS} is {pixels.shape}; the image processor makes {wanted}"
        )


def _constants(
    mean: Triple, std: Triple, size: tuple[int, int], hidden: int, mask: str
) -> list[Any]:
    values = {
        "scale": (1.0 / (255.0 * np.array(std, np.float64))).astype(np.float32),
        "shift": (np.array(mean, np.float64) / np.array(std, np.float64)).astype(np.float32),
        "one": np.array([1], np.int64),
        "first": np.array([0], np.int64),
        "size": np.array(size, np.int64),
        "batch": np.array([1, -1, 3, *size], np.int64),
        "rows": np.array([-1, hidden], np.int64),
        "true": np.ones((), mask),
    }
    return [numpy_helper.from_array(v, f"edgevlm/{n}") for n, v in values.items()]


def _before(inputs: dict[str, TensorEntry]) -> list[Any]:
    """From uint8 tiles to what the encoder takes."""
    half = TensorProto.FLOAT16 if inputs[PIXELS].dtype == "float16" else TensorProto.FLOAT
    batched = len(inputs[PIXELS].shape) == 5
    nodes = [
        _node("Shape", ["image"], "shape"),
        _node("Gather", ["edgevlm/shape", "edgevlm/first"], "tiles", axis=0),
        _node("Cast", ["image"], "float", to=TensorProto.FLOAT),
        _node("Mul", ["edgevlm/float", "edgevlm/scale"], "scaled"),
        _node("Sub", ["edgevlm/scaled", "edgevlm/shift"], "normal"),
        _node("Transpose", ["edgevlm/normal"], "planes", perm=[0, 3, 1, 2]),
    ]
    planes = "edgevlm/planes"
    if batched:
        nodes.append(_node("Reshape", [planes, "edgevlm/batch"], "batched"))
        planes = "edgevlm/batched"
    nodes.append(helper.make_node("Cast", [planes], [PIXELS], name=PIXELS, to=half))
    if MASK in inputs:
        parts = ["edgevlm/one", "edgevlm/tiles", "edgevlm/size"]
        nodes.append(_node("Concat", parts[0 if batched else 1 :], "mask_shape", axis=0))
        full = ["edgevlm/true", "edgevlm/mask_shape"]
        nodes.append(helper.make_node("Expand", full, [MASK], name=MASK))
    return nodes


def _after(features: TensorEntry) -> list[Any]:
    """Rows tile by tile, in float32."""
    return [
        _node("Cast", [features.name], "features", to=TensorProto.FLOAT),
        _node("Concat", ["edgevlm/tiles", "edgevlm/rows"], "rows_shape", axis=0),
        helper.make_node(
            "Reshape", ["edgevlm/features", "edgevlm/rows_shape"], ["visual_tokens"], name="rows"
        ),
    ]


def _node(op: str, inputs: list[str], place: str, **attributes: Any) -> Any:
    name = f"edgevlm/{place}"
    return helper.make_node(op, inputs, [name], name=name, **attributes)
