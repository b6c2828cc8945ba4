"""The tensors of a checkpoint under the names of its files, and views under other names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import finite, read_json
from edgevlm.export.checkpoint.safetensors import SafetensorsFile
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Float32

INDEX = "model.safetensors.index.json"


class Tensors(Protocol):
    """Tensors by the names they are stored under, read when asked for."""

    @property
    def names(self) -> frozenset[str]:
        """Every stored name."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        ...

    def get(self, name: str) -> Float32:
        """One tensor as float32."""
        ...

    def blocks(self, name: str) -> QuantBlocks | None:
        """The tensor as stored, if it is quantised in a layout that is kept without loss."""
        ...


class StoredTensors:
    """All safetensors files of a folder.

    Args:
        folder: holds ``model.safetensors``, or shards with ``model.safetensors.index.json``.

    Raises:
        CheckpointError: no safetensors, a missing or incomplete shard, or a damaged file.
    """

    def __init__(self, folder: Path) -> None:
        self.files = _find(folder)
        self._where: dict[str, SafetensorsFile] = {}
        for path in self.files:
            file = SafetensorsFile(path)
            self._where |= dict.fromkeys(file.tensors, file)
        if (folder / INDEX).is_file():
            promised = read_json(folder / INDEX)["weight_map"]
            if lost := sorted(promised.keys() - self._where.keys()):
                raise CheckpointError(
                    f"{folder / INDEX} promises {lost[0]} and {len(lost) - 1} more tensors that "
                    f"are not in {promised[lost[0]]}: copy the shard again"
                )

    @property
    def names(self) -> frozenset[str]:
        """Every stored name."""
        return frozenset(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return self._where[name].tensors[name][1]

    def get(self, name: str) -> Float32:
        """One tensor as float32.

        Raises:
            CheckpointError: it holds infinities or NaN, or has a dtype that is not read.
        """
        return finite(name, self._where[name].get(name))

    def integers(self, name: str) -> NDArray[np.int32]:
        """One tensor of packed bits.

        Raises:
            CheckpointError: its dtype is not int32.
        """
        return self._where[name].integers(name)

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - these are floats
        """Always None: nothing here is quantised."""
        return None


class View:
    """Tensors under canonical names: a ``WeightSource``.

    Args:
        tensors: of a checkpoint.
        prefixes: tried in order before a canonical name, as in ``("model.", "")``.
        where: named in errors.
        transform: from a canonical name and its value to what is used instead.
        rename: from a canonical name to what the family calls it.
    """

    def __init__(
        self,
        tensors: Tensors,
        prefixes: tuple[str, ...],
        where: str = "the checkpoint",
        transform: Callable[[str, Float32], Float32] | None = None,
        rename: Callable[[str], str] = str,
    ) -> None:
        self._tensors = tensors
        self._prefixes = prefixes
        self._names = tensors.names
        self._location = where
        self._transform = transform
        self._rename = rename

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        return any(prefix + self._rename(name) in self._names for prefix in self._prefixes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape, without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        return self._tensors.shape(self._stored(name))

    def get(self, name: str) -> Float32:
        """The weight as float32.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        value = self._tensors.get(self._stored(name))
        return value if self._transform is None else self._transform(name, value)

    def blocks(self, name: str) -> QuantBlocks | None:
        """The weight as stored, if it already has a layout that is kept without loss."""
        return self._tensors.blocks(self._stored(name))

    def _stored(self, name: str) -> str:
        tried = [prefix + self._rename(name) for prefix in self._prefixes]
        for stored in tried:
            if stored in self._names:
                return stored
        raise CheckpointError(f"{self._location} lacks the weight {name} (tried {tried})")


def _find(folder: Path) -> list[Path]:
    listing = folder / INDEX
    if listing.is_file():
        shards = read_json(listing).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{listing} has no weight_map")
        names = sorted(set(map(str, shards.values())))
        paths = [folder / n for n in names]
        for name, path in zip(names, paths, strict=True):
            if Path(name).name != name or not path.is_file():
                raise CheckpointError(f"{listing} names the shard {name!r}, which is not there")
        return paths
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(
            f"{folder} holds no .safetensors; pickled checkpoints (.bin, .pt) are not read, "
            "because loading them runs code: save it again with save_pretrained(..., "
            "safe_serialization=True)"
        )
    return paths
