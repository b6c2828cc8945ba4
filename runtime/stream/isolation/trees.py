"""Pictures, and what an encoder made of them, as trees of JSON beside a list of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgevlm.errors import ContractError
from edgevlm.runtime.model.vision import Encoded, Segment
from edgevlm.tensors import Array

_KINDS = {"encoded": Encoded, "segment": Segment}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def packed(value: Any, arrays: list[Array]) -> Any:
    """A tree that JSON holds; arrays are appended to ``arrays``, their numbers stand in the tree.

    Raises:
        ContractError: something that has no place in a tree.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list):
        return [packed(part, arrays) for part in value]
    if isinstance(value, dict):
        return {"named": {str(name): packed(part, arrays) for name, part in value.items()}}
    if name := _NAMES.get(type(value)):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: {key: packed(part, arrays) for key, part in fields.items()}}
    raise ContractError(f"{type(value).__name__} cannot go to a model's process")


def unpacked(tree: Any, arrays: Sequence[Array]) -> Any:
    """What was packed, lists as tuples.

    Raises:
        ContractError: no such tree.
    """
    if isinstance(tree, list):
        return tuple(unpacked(part, arrays) for part in tree)
    if not isinstance(tree, dict):
        return tree
    try:
        [(kind, value)] = tree.items()
        if kind == "array":
            return arrays[value]
        parts = {key: unpacked(part, arrays) for key, part in value.items()}
        return parts if kind == "named" else _KINDS[kind](**parts)
    except (ValueError, TypeError, LookupError, AttributeError) as exc:
        raise ContractError(f"no tree of pictures and arrays: {exc!r}") from exc
