"""Banks of patches on disk: one ``.npz`` file, read without executing anything in it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgevlm.bundle.manifest import Manifest
from edgevlm.errors import BankError
from edgevlm.runtime.model.matching import Patches
from edgevlm.tensors import Array

VERSION: Literal[1] = 1
MAX_PATCHES = 1 << 20
Unit = Annotated[float, Field(gt=0, lt=1)]
Rule = TypeVar("Rule", bound=BaseModel)


class NormalRule(BaseModel):
    """What a bank of good pictures says besides its patches.

    ``scores`` are of the good pictures themselves, each held against the others; ``threshold``
    follows from them at the stated rate of false alarms, see ``threshold.limit``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["normal"] = "normal"
    version: Literal[1] = VERSION
    encoder: str
    pictures: int = Field(ge=1)
    size: tuple[int, int] | None = Field(description="height and width; None takes any")
    radius: float | None = Field(ge=0, description="rows and columns; None is anywhere")
    scores: tuple[float, ...] = Field(min_length=1)
    false_alarms: Unit
    threshold: float


def encoder_of(manifest: Manifest) -> str:
    """What makes patches comparable: the vision graph's bytes, as a hash."""
    files = sorted(name for name in manifest.files if name.startswith("vision."))
    told = "".join(f"{name} {manifest.files[name].sha256}\n" for name in files)
    return hashlib.sha256(told.encode()).hexdigest()


def write_bank(path: Path, rule: BaseModel, arrays: dict[str, Array]) -> None:
    """Write a bank, whole or not at all.

    Raises:
        BankError: the place cannot be written.
    """
    said = np.frombuffer(rule.model_dump_json().encode(), np.uint8)
    named: dict[str, Any] = {"rule": said, **arrays}
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **named)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise BankError(f"the bank {path} cannot be written: {exc.strerror or exc}") from exc


def read_bank(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The rule, not yet checked, and the arrays.

    Raises:
        BankError: no such file, or none that ``edgevlm teach`` wrote.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        rule = json.loads(arrays.pop("rule").tobytes())
    except FileNotFoundError as exc:
        raise BankError(f"there is no bank {path}: edgevlm teach makes one") from exc
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as exc:
        raise BankError(f"{path} is no bank, or damaged: teach again ({exc})") from exc
    if not isinstance(rule, dict):
        raise BankError(f"{path} is no bank: its rule is a {type(rule).__name__}")
    return rule, arrays


def checked_patches(path: Path, arrays: dict[str, Array], manifest: Manifest) -> Patches:
    """The patches of a bank.

    Raises:
        BankError: they do not fit each other or the bundle.
    """
    spec = manifest.matching
    width = spec.width if spec is not None else 0
    features, places = arrays.get("features"), arrays.get("places")
    if features is None or places is None:
        raise BankError(f"{path} lacks {'features' if features is None else 'places'}")
    count = len(features) if features.ndim else 0
    fits = (
        0 < count <= MAX_PATCHES
        and features.shape == (count, width)
        and features.dtype == np.float16
        and places.shape == (count, 2)
        and places.dtype == np.int16
    )
    if not fits or not np.isfinite(features).all():
        raise BankError(
            f"{path}: features {features.dtype} {features.shape} and places {places.dtype} "
            f"{places.shape} are no patches of {width} features"
        )
    return Patches(features=features.astype(np.float32), places=places.astype(np.int64))


def packed(patches: Patches) -> dict[str, Array]:
    """Patches as a bank keeps them, half as large."""
    return {
        "features": patches.features.astype(np.float16),
        "places": patches.places.astype(np.int16),
    }


def checked_rule(path: Path, rule: dict[str, Any], kind: type[Rule], said: str) -> Rule:
    """The rule of a bank, of the kind that is wanted.

    Raises:
        BankError: it is another kind of bank, or was written by another version.
    """
    try:
        return kind.model_validate(rule)
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise BankError(f"{path} is no bank {said}: {where}: {error['msg']}") from exc
