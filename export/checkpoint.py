"""A Hugging Face checkpoint folder: ``config.json`` and safetensors, memory-mapped."""

from __future__ import annotations

import json
import math
import struct
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgevlm.errors import CheckpointError
from edgevlm.export.quantize import QuantBlocks
from edgevlm.tensors import Array, Float32

_HEADER_CAP = 100 << 20
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


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


class SafetensorsFile:
    """The tensors of one ``.safetensors`` file, mapped and never copied until asked for.

    Args:
        path: the file.

    Raises:
        CheckpointError: truncated, a header that does not parse, or a tensor whose bytes are not
            inside the file.

    Source: the safetensors format, README section "Format".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > min(_HEADER_CAP, size - 8):
                raise CheckpointError(f"{path} is truncated or not a safetensors file")
            try:
                header = json.loads(file.read(length))
            except (ValueError, RecursionError) as exc:
                raise CheckpointError(f"{path} has a damaged header: {exc}") from exc
        if not isinstance(header, dict):
            raise CheckpointError(f"{path} has a damaged header: no object")
        header.pop("__metadata__", None)
        self.tensors: dict[str, tuple[str, tuple[int, ...], int]] = {}
        for name, entry in header.items():
            try:
                start, end = map(index, entry["data_offsets"])
                shape = tuple(map(index, entry["shape"]))
                dtype = str(entry["dtype"])
            except (KeyError, TypeError, ValueError) as exc:
                raise CheckpointError(f"{path}: the entry of {name} is damaged") from exc
            if not 0 <= start <= end <= size - 8 - length:
                raise CheckpointError(f"{path} is truncated: {name} ends behind the file")
            if min(shape, default=0) < 0:
                raise CheckpointError(f"{path}: {name} has the shape {shape}")
            if dtype in _DTYPES:
                want = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
                if want != end - start:
                    raise CheckpointError(f"{path}: {name} has {end - start} bytes, not {want}")
            self.tensors[name] = (dtype, shape, 8 + length + start)

    def get(self, name: str) -> Float32:
        """One tensor as float32; float32 ones are a read-only map of the file."""
        dtype, shape, offset = self.tensors[name]
        if dtype not in _DTYPES:
            raise CheckpointError(f"{self.path}: {name} has the dtype {dtype}, which is not read")
        count = math.prod(shape)
        raw: Array = np.memmap(self.path, _DTYPES[dtype], "r", offset, (count,))
        if dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(raw, np.float32).reshape(shape)


class HfWeights:
    """Decoder weights of a checkpoint folder, by canonical name.

    Args:
        folder: holds ``model.safetensors``, or shards with ``model.safetensors.index.json``.
        prefixes: tried in order before a canonical name, as in ``("model.", "")``.

    Raises:
        CheckpointError: no safetensors, a missing shard, or a damaged file.
    """

    def __init__(self, folder: Path, prefixes: tuple[str, ...]) -> None:
        self._folder = folder
        self._prefixes = prefixes
        self.files = self._find(folder)
        self._where: dict[str, SafetensorsFile] = {}
        for path in self.files:
            file = SafetensorsFile(path)
            self._where |= dict.fromkeys(file.tensors, file)

    @staticmethod
    def _find(folder: Path) -> list[Path]:
        listing = folder / "model.safetensors.index.json"
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
                f"{folder} holds no .safetensors; pickled checkpoints (.bin, .pt) are not read: "
                "save it again with save_pretrained(..., safe_serialization=True)"
            )
        return paths

    def _stored(self, name: str) -> str:
        tried = [prefix + name for prefix in self._prefixes]
        for stored in tried:
            if stored in self._where:
                return stored
        raise CheckpointError(f"{self._folder} lacks the weight {name} (tried {tried})")

    def has(self, name: str) -> bool:
        """True if the checkpoint holds this weight."""
        return any(prefix + name in self._where for prefix in self._prefixes)

    def shape(self, name: str) -> tuple[int, ...]:
        """The weight's shape."""
        stored = self._stored(name)
        return self._where[stored].tensors[stored][1]

    def get(self, name: str) -> Float32:
        """The weight as float32."""
        stored = self._stored(name)
        return finite(name, self._where[stored].get(stored))

    def blocks(self, name: str) -> QuantBlocks | None:  # noqa: ARG002 - safetensors are floats
        """Always None: nothing here is quantised."""
        return None
