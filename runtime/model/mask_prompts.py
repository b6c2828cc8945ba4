"""Points and boxes as users give them, as the arrays that the mask decoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.masks import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    LOWER_RIGHT,
    PADDING,
    UPPER_LEFT,
)
from edgevlm.errors import ContractError
from edgevlm.runtime.model.pictures.placement import Placement
from edgevlm.tensors import Array, Float32

Given = Sequence[Any] | Array
SHAPE = "a list of prompts, each a list of points (x, y) in pixels of the picture"


def prompt_arrays(
    points: Given | None,
    labels: Given | None,
    boxes: Given | None,
    place: Placement,
) -> tuple[Float32, NDArray[np.int64]]:
    """What the graph takes.

    Args:
        points: ``(prompts, n, 2)``; prompts may differ in n.
        labels: ``(prompts, n)``: 1 for points inside the object, 0 for points outside; None is
            all inside.
        boxes: ``(prompts, 4)``: left, top, right, bottom.
        place: of the picture in the encoder's input.

    Returns:
        float32 ``(prompts, n, 2)`` in pixels of the encoder's input, and int64 ``(prompts, n)``.
        Without boxes every prompt ends with a point that is none, as the model was trained.

    Raises:
        ContractError: anything else, or values that are not finite.
    """
    if points is None and boxes is None:
        raise ContractError("masks need points or boxes, got neither")
    if points is None and labels is not None:
        raise ContractError("labels belong to points, and there are none")
    parts: list[tuple[Float32, NDArray[np.int64]]] = []
    if points is not None:
        parts.append(_filled(_points(points), labels))
    if boxes is not None:
        corners = _boxes(boxes)
        parts.append((corners, np.tile(np.array([UPPER_LEFT, LOWER_RIGHT]), (len(corners), 1))))
    else:
        count = len(parts[0][0])
        parts.append((np.zeros((count, 1, 2), np.float32), np.full((count, 1), PADDING)))
    if len({len(where) for where, _ in parts}) > 1:
        raise ContractError(
            f"points are given for {len(parts[0][0])} prompts and boxes for {len(parts[1][0])}; "
            "every prompt takes both or neither"
        )
    kinds = np.concatenate([kind for _, kind in parts], axis=1)
    scaled = [place.points_to_input(where).astype(np.float32) for where, _ in parts]
    return np.concatenate(scaled, axis=1), kinds.astype(np.int64)


def _points(points: Given) -> list[Float32]:
    """Every prompt's points, ``(n, 2)`` each."""
    found = []
    for prompt in _prompts(points, f"points must be {SHAPE}"):
        found.append(_numbers(prompt, f"points must be {SHAPE}"))
        if found[-1].ndim != 2 or found[-1].shape[1] != 2 or not len(found[-1]):
            raise ContractError(f"points must be {SHAPE}; a prompt has the shape {found[-1].shape}")
    return found


def _filled(points: list[Float32], labels: Given | None) -> tuple[Float32, NDArray[np.int64]]:
    """All prompts as one array, the shorter ones filled up with tokens of zeros."""
    longest = max(map(len, points))
    where = np.zeros((len(points), longest, 2), np.float32)
    kinds = np.full((len(points), longest), IGNORED)
    wanted = "labels must be one number a point, 1 (inside) or 0 (outside)"
    given: list[Any] = [np.ones(len(p)) for p in points]
    if labels is not None:
        given = _prompts(labels, wanted)
    if len(given) != len(points):
        raise ContractError(f"{wanted}; got {len(given)} prompts of them for {len(points)}")
    for n, (own, kind) in enumerate(zip(points, given, strict=True)):
        values = _numbers(kind, wanted)
        if values.shape != (len(own),) or not np.isin(values, [BACKGROUND, FOREGROUND]).all():
            raise ContractError(f"{wanted}; prompt {n} has {values.tolist()} for {len(own)} points")
        where[n, : len(own)], kinds[n, : len(own)] = own, values
    return where, kinds


def _boxes(boxes: Given) -> Float32:
    """Corners of every box, ``(prompts, 2, 2)``."""
    wanted = "boxes must be a list of (left, top, right, bottom) in pixels of the picture"
    found = _numbers(boxes, wanted)
    if found.ndim != 2 or found.shape[1] != 4 or not len(found):
        raise ContractError(f"{wanted}; got the shape {found.shape}")
    if (found[:, :2] > found[:, 2:]).any():
        raise ContractError(f"{wanted}; one of them ends before it begins: {found.tolist()}")
    return found.reshape(-1, 2, 2)


def _prompts(value: Given, wanted: str) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or not len(value):
        raise ContractError(f"{wanted}; got {value!r:.80}")
    return list(value)


def _numbers(value: Any, wanted: str) -> Float32:
    try:
        found = np.asarray(value, np.float32)
    except (TypeError, ValueError) as exc:
        raise ContractError(f"{wanted}; got {value!r:.80}") from exc
    if not np.isfinite(found).all():
        raise ContractError(f"{wanted}; got values that are not finite")
    return found
