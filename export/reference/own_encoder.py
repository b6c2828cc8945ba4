"""The source model of an encoder that transformers has no class for, run in a child process.

``python -m edgevlm.export.reference.own_encoder CHECKPOINT CASES`` is what
``transformers_encoder`` is, for families whose model is written down here in plain torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

from edgevlm.bundle.probe_case import cases
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.recipe import family_of
from edgevlm.export.reference.transformers_encoder import ReferenceFamily, compute


class OwnFamily(ReferenceFamily, Protocol):
    """A family whose model is written down here."""

    def reference_name(self) -> str:
        """What computes the reference, for the certificate."""
        ...


def main(arguments: list[str]) -> int:
    """Compute every case; the last line of stderr says what went wrong."""
    folder, root = Path(arguments[0]), Path(arguments[1])
    try:
        import torch

        torch.set_num_threads(os.cpu_count() or 1)
        checkpoint = Checkpoint(folder)
        family: OwnFamily = family_of(checkpoint)
        config = checkpoint.config
        with torch.inference_mode():
            model = family.reference_model(checkpoint, config)
            for case in cases(root):
                compute(model, family, checkpoint, config, case)
        name = f"{family.reference_name()}, float32, torch {torch.__version__}\n"
        (root / "reference.txt").write_text(name, "utf-8")
    except (CheckpointError, ImportError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
