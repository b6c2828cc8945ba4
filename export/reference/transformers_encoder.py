"""The source model of an encoder bundle, run in a child process.

``python -m edgevlm.export.reference.transformers_encoder CHECKPOINT CASES`` computes every case
under ``CASES``, from the pixels and token ids that the bundle's own runtime made, and writes what
the model gives beside them. The family says how its model is loaded and asked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgevlm.bundle.probe_case import ProbeCase, cases, sample_rows
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.models.hf_config import full_config
from edgevlm.export.recipe import family_of
from edgevlm.tensors import Array


class ReferenceFamily(Protocol):
    """What a family of encoders says of its source model."""

    def reference_model(self, checkpoint: Checkpoint, config: dict[str, Any]) -> Any:
        """The source model in float32."""
        ...

    def reference_inputs(
        self, checkpoint: Checkpoint, config: dict[str, Any], case: ProbeCase
    ) -> dict[str, Array]:
        """What the model takes for a case, besides the case's texts."""
        ...

    def reference_outputs(
        self, model: Any, inputs: dict[str, Any], texts: dict[str, Any]
    ) -> dict[str, Any]:
        """Tensors by stage, ``<graph>.<output>``.

        Args:
            model: from ``reference_model``.
            inputs: from ``reference_inputs``, as tensors.
            texts: ``input_ids`` and, where the bundle has one, ``attention_mask``, as tensors;
                empty where the case has no texts.
        """
        ...


def main(arguments: list[str]) -> int:
    """Compute every case; the last line of stderr says what went wrong."""
    folder, root = Path(arguments[0]), Path(arguments[1])
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        checkpoint = Checkpoint(folder)
        family: ReferenceFamily = family_of(checkpoint)
        config = full_config(folder)
        model = family.reference_model(checkpoint, config)
        for case in cases(root):
            compute(model, family, checkpoint, config, case)
        (root / "reference.txt").write_text(_reference_name() + "\n", "utf-8")
    except (CheckpointError, ImportError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def compute(
    model: Any,
    family: ReferenceFamily,
    checkpoint: Checkpoint,
    config: dict[str, Any],
    case: ProbeCase,
) -> None:
    """Run one case and write its stages.

    Raises:
        CheckpointError: the model's own values are not finite.
    """
    import torch

    def tensors(arrays: dict[str, Array]) -> dict[str, Any]:
        return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}

    inputs = family.reference_inputs(checkpoint, config, case)
    texts = {name.removeprefix("text."): case.load(name) for name in case.names("text.")}
    with torch.inference_mode():
        found = family.reference_outputs(model, tensors(inputs), tensors(texts))
    for stage, value in found.items():
        rows = value.detach().float().numpy()
        if not np.isfinite(rows).all():
            raise CheckpointError(
                f"the checkpoint's own {stage} is not finite: its weights are damaged"
            )
        case.save(f"stage.{stage}", sample_rows(rows))


def _reference_name() -> str:
    import torch
    import transformers

    return f"transformers {transformers.__version__}, float32, torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
