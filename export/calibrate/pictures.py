"""Rows that pictures become, from the vision graph that was just written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevlm.export.reference.child import run_module
from edgevlm.tensors import Float32


@dataclass(frozen=True, slots=True)
class PictureRows:
    """Runs the vision graph of the staged bundle over some pictures.

    Args:
        stage: writes the bundle's manifest as far as it is known.
        own: a folder of the user's pictures, besides the drawn ones.
    """

    stage: Callable[[], None]
    own: Path | None = None

    def of(self, root: Path) -> list[Float32]:
        """The rows of every picture, float32 ``(rows, hidden_size)``.

        Raises:
            ExportError: the vision graph does not run.
        """
        self.stage()
        with tempfile.TemporaryDirectory() as folder:
            extra = [] if self.own is None else [self.own]
            run_module(
                "edgevlm.runtime.model.visual_rows",
                root, folder, *extra,
                doing="encoding pictures to calibrate with",
            )  # fmt: skip
            paths = sorted(Path(folder).glob("*.npy"), key=lambda path: int(path.stem))
            return [np.load(path, allow_pickle=False) for path in paths]
