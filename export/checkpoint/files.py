"""Read the small files of a checkpoint, and say in one line what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgevlm.errors import CheckpointError
from edgevlm.tensors import Float32


def reason(exc: Exception) -> str:
    """What an exception says, in one line; of pydantic's the first problem."""
    if isinstance(exc, ValidationError):
        first = exc.errors()[0]
        return ": ".join([*map(str, first["loc"]), first["msg"]])
    return " ".join(str(exc).split())


def finite(name: str, value: Float32) -> Float32:
    """The weight itself.

    Raises:
        CheckpointError: it holds infinities or NaN.
    """
    if not np.isfinite(value).all():
        raise CheckpointError(f"the weight {name} holds values that are not finite")
    return value


def read_text(path: Path) -> str:
    """A UTF-8 text file.

    Raises:
        CheckpointError: missing, not a file, or not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path} does not exist") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise CheckpointError(f"{path} cannot be read: {exc}") from exc


def read_json(path: Path) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
