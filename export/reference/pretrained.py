"""A checkpoint as transformers loads it, whatever its size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgevlm.errors import CheckpointError

RESIDENT_BYTES = 4 * 10**9  # of weights: with mapped pages, the whole process has 10 GB

Loaded = tuple[Any, dict[str, Any]]  # the model, and what transformers says of loading it


def load_pretrained(class_name: str, folder: Path, *, whole: bool = False) -> Any:
    """A checkpoint in float32, as one class of transformers.

    Weights beyond ``RESIDENT_BYTES`` stay in their files: accelerate maps a file when a layer runs,
    widens the layer's weights and forgets them behind it. Half precision widens without rounding,
    so what the model computes is the same to the bit.

    Args:
        class_name: of transformers.
        folder: the checkpoint.
        whole: keep all weights in memory, for who changes them.

    Raises:
        CheckpointError: transformers refuses it, or weights are missing from the files.
    """

    def read() -> Loaded:
        import torch
        import transformers

        place = {} if whole else {"device_map": "auto", "max_memory": {"cpu": RESIDENT_BYTES}}
        found: Loaded = getattr(transformers, class_name).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            **place,
        )
        return found

    return checked(folder, read)


def checked(folder: Path, read: Callable[[], Loaded]) -> Any:
    """The model that ``read`` gives, if all of it was there.

    Raises:
        CheckpointError: transformers refuses it, or weights are missing from the files.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        model, report = read()
    except Exception as exc:  # transformers raises whatever a checkpoint provokes
        line = " ".join(str(exc).split())
        raise CheckpointError(f"transformers cannot load {folder}: {line:.300}") from exc
    if lost := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"{folder} lacks {len(lost)} weights that transformers would draw at random: "
            f"{', '.join(lost[:3])}"
        )
    return model.eval()
