"""A checkpoint in 4 bits as a plain float model of transformers, without a kernel package."""

from __future__ import annotations

from typing import Any

from edgevlm.export.checkpoint import Checkpoint


def load_unpacked(checkpoint: Checkpoint) -> tuple[Any, dict[str, Any]]:
    """The model with every weight unpacked, and what transformers says of loading it.

    Args:
        checkpoint: one whose configuration says that its weights are quantised.
    """
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    for part in (config, config.get_text_config()):
        if hasattr(part, "quantization_config"):
            del part.quantization_config
    with torch.device("meta"):
        made_of = type(transformers.AutoModelForImageTextToText.from_config(config))
    tensors = checkpoint.tensors
    state = {name: torch.tensor(tensors.get(name)) for name in sorted(tensors.names)}
    model, report = made_of.from_pretrained(
        None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
    )
    return model, report
