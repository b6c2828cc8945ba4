"""Gather a model from a Hugging Face checkpoint folder, or a text model from a GGUF file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from edgevlm.bundle.prompt import PromptSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import Checkpoint, compiled
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.models.base import refuse_vision_options
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.registry import FAMILIES

_NO_CLASS = (
    "transformers has no class for it, only the checkpoint's own Python code, which is never run; "
    "SmolVLM (smolvlm) and FastVLM (fast_vlm) are of a similar size"
)
REFUSED = {name: _NO_CLASS for name in ("moondream", "moondream1", "moondream2", "moondream3")}


def gather_folder(folder: Path, options: ExportOptions) -> ModelParts:
    """Read a checkpoint folder of any known family.

    Raises:
        CheckpointError: an unknown ``model_type``, or missing or damaged files.
        ConfigError: an option that does not fit the family.
    """
    checkpoint = Checkpoint(folder, options.adapter)
    parts: ModelParts = family_of(checkpoint).gather(checkpoint, options)
    return parts


def family_of(checkpoint: Checkpoint) -> Any:
    """The registered family of a checkpoint's ``model_type``.

    Raises:
        CheckpointError: there is none; the message lists the nearest, or says why not.
    """
    model_type = checkpoint.model_type
    known = FAMILIES.known()
    if model_type in known:
        return FAMILIES.resolve(model_type)
    if model_type in REFUSED:
        raise CheckpointError(f"{checkpoint.folder}: {model_type}: {REFUSED[model_type]}")
    near = difflib.get_close_matches(model_type, known, n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}; " if near else ""
    remote = ""
    if checkpoint.config.get("auto_map"):
        remote = (
            "; it brings its own Python code (auto_map), which is never run: look for a "
            "conversion to a class of transformers, often named -hf"
        )
    raise CheckpointError(
        f"{checkpoint.folder}: model_type {model_type!r} is not known; {hint}all: "
        f"{', '.join(known)}{remote}"
    )


def gather_gguf(path: Path, options: ExportOptions) -> ModelParts:
    """Read a GGUF file.

    Raises:
        CheckpointError: damaged, of an unknown architecture, or without a tokenizer.
        ConfigError: an option that is about pictures.
    """
    refuse_vision_options(options)
    if options.adapter is not None:
        raise ConfigError(f"--adapter {options.adapter}: adapters go onto checkpoint folders")
    file = GgufFile(path)
    template = file.metadata.get("tokenizer.chat_template")
    eos, bos = (file.metadata.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "bos"))
    if not isinstance(eos, int) or not isinstance(bos, int | None):
        raise CheckpointError(f"{path} names no end token (tokenizer.ggml.eos_token_id)")
    return ModelParts(
        name=str(file.metadata.get("general.name", path.stem)),
        family=file.architecture,
        license=str(file.metadata.get("general.license", "unknown")),
        spec=file.spec,
        weights=file,
        tokenizer=build_tokenizer(file.metadata),
        chat_template=None if template is None else compiled(str(template), path),
        prompt=PromptSpec(
            chat_template="chat_template.jinja" if template is not None else None,
            bos_token_id=bos,
            add_bos=bool(file.metadata.get("tokenizer.ggml.add_bos_token", False)),
            stop_token_ids=(eos,),
        ),
        precision="fp32",
        weight_files=(path,),
        parameters=file.spec.parameter_count(),
    )
