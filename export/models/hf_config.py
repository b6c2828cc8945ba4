"""A checkpoint's configuration with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import read_json


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
    raw = read_json(folder / "config.json")
    try:
        if raw.get("model_type") == "llava_qwen2":
            config = AutoConfig.for_model("fast_vlm", **_as_fast_vlm(raw))
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as exc:  # transformers raises whatever a config provokes
        line = " ".join(str(exc).split())
        raise CheckpointError(f"{folder}/config.json is refused: {line:.300}") from exc
    return dict(config.to_dict())


def _as_fast_vlm(raw: dict[str, Any]) -> dict[str, Any]:
    """FastVLM's own configuration, flat around its language model, as transformers nests it."""
    text = {k: v for k, v in raw.items() if not k.startswith(("mm_", "image_", "transformers"))}
    for key in ("architectures", "auto_map", "model_type"):
        text.pop(key, None)
    named = (raw.get(key) for key in ("image_token_id", "image_token_index"))
    token = next((value for value in named if value is not None), None)
    return {
        "text_config": {"model_type": "qwen2", **text},
        "tie_word_embeddings": bool(raw.get("tie_word_embeddings", False)),
        **({} if token is None else {"image_token_id": token}),
    }


def section(class_name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """One section of a configuration as a class of transformers understands it.

    Raises:
        CheckpointError: transformers is missing, or refuses the section.
    """
    try:
        import transformers
    except ImportError as exc:
        raise CheckpointError(
            f"a section like {class_name} needs transformers to be read: "
            "pip install 'edgevlm[export]'"
        ) from exc
    try:
        return dict(getattr(transformers, class_name)(**settings).to_dict())
    except Exception as exc:  # transformers raises whatever a configuration provokes
        line = " ".join(str(exc).split())
        raise CheckpointError(
            f"config.json: {class_name} refuses its section: {line:.300}"
        ) from exc
