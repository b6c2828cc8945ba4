"""A checkpoint's configuration with every default filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevlm.errors import CheckpointError


def full_config(folder: Path) -> dict[str, Any]:
    """The configuration as transformers understands it.

    Published configs leave out what equals a class default, and the defaults live in transformers.

    Raises:
        CheckpointError: transformers is missing, or refuses the configuration.
    """
    try:
        from transformers import AutoConfig
    except ImportError as exc:
        raise CheckpointError(
            "vision-language checkpoints need transformers to read their configuration: "
            "pip install 'edgevlm[export]'"
        ) from exc
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as exc:  # transformers raises whatever a config provokes
        line = " ".join(str(exc).split())
        raise CheckpointError(f"{folder}/config.json is refused: {line:.300}") from exc
    return dict(config.to_dict())
