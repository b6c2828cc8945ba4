"""The file of nano's trained tensors, read with every name and shape checked."""

from __future__ import annotations

from pathlib import Path

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import finite
from edgevlm.export.checkpoint.safetensors import SafetensorsFile
from edgevlm.tensors import Float32

RETRAIN = "fetch the package again, or train it: python -m edgevlm.export.nano_train"


class TrainedFile:
    """Tensors by name, in float32 whatever they are stored in.

    Args:
        path: a ``.safetensors`` file.

    Raises:
        CheckpointError: it is missing, or damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"{path}, which nano was trained to, does not exist: {RETRAIN}")
        self.path = path
        self._file = SafetensorsFile(path)
        self._taken: set[str] = set()

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return self._file.metadata

    @property
    def names(self) -> frozenset[str]:
        """Of all tensors."""
        return frozenset(self._file.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it.

        Raises:
            CheckpointError: it is missing.
        """
        if name not in self._file.tensors:
            raise CheckpointError(f"{self.path} lacks {name}: {RETRAIN}")
        return self._file.tensors[name][1]

    def take(self, name: str, *shape: int) -> Float32:
        """One tensor.

        Raises:
            CheckpointError: it is missing, has another shape, or values that are not finite.
        """
        if (found := self.shape(name)) != shape:
            raise CheckpointError(f"{self.path}: {name} has the shape {found}, not {shape}")
        self._taken.add(name)
        return finite(name, self._file.get(name))

    def done(self) -> None:
        """Refuse a file that says more than was asked for.

        Raises:
            CheckpointError: tensors that nobody took.
        """
        if more := sorted(self.names - self._taken):
            raise CheckpointError(
                f"{self.path} has {len(more)} tensors that nano does not know, such as {more[0]}"
            )
