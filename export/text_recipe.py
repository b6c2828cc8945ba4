"""Gather a text model: a Hugging Face checkpoint folder, or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from edgevlm.bundle.manifest import PromptSpec
from edgevlm.errors import CheckpointError, ConfigError
from edgevlm.export.checkpoint import HfWeights, read_json, read_text, reason
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.model_parts import ExportOptions, ModelParts
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.registry import FAMILIES


def gather_folder(folder: Path, options: ExportOptions) -> ModelParts:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: an unknown ``model_type``, or missing or damaged files.
        ConfigError: an option that is about pictures.
    """
    _refuse_vision_options(options)
    config = read_json(folder / "config.json")
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES.known():
        raise CheckpointError(
            f"{folder}: model_type {model_type!r} is not one of {', '.join(FAMILIES.known())}"
        )
    family = FAMILIES.resolve(model_type)
    spec = family.spec(config)
    weights = HfWeights(folder, family.prefixes)
    if spec.tied_head and weights.has("lm_head.weight") and not weights.has("embed_tokens.weight"):
        raise CheckpointError(f"{folder}: the embedding is missing; only lm_head.weight is there")
    tokenizer_path = folder / "tokenizer.json"
    if not tokenizer_path.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; save it with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    settings = _optional(folder / "tokenizer_config.json")
    generation = _optional(folder / "generation_config.json")
    template = _template(folder, settings)
    try:
        tokenizer = Tokenizer.from_str(read_text(tokenizer_path))
    except CheckpointError:
        raise
    except Exception as exc:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"{tokenizer_path} is not a tokenizer: {reason(exc)}") from exc
    return ModelParts(
        name=folder.resolve().name,
        family=model_type,
        license=str(config.get("license", "unknown")),
        spec=spec,
        weights=weights,
        tokenizer=tokenizer,
        chat_template=template,
        prompt=PromptSpec(
            chat_template="chat_template.jinja" if template else None,
            bos_token_id=_bos_id(folder, generation, config),
            stop_token_ids=_stop_ids(folder, generation, config),
        ),
        precision="fp32",
        weight_files=tuple(weights.files),
        licenses=_licenses(folder),
    )


def gather_gguf(path: Path, options: ExportOptions) -> ModelParts:
    """Read a GGUF file.

    Raises:
        CheckpointError: damaged, of an unknown architecture, or without a tokenizer.
        ConfigError: an option that is about pictures.
    """
    _refuse_vision_options(options)
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
        chat_template=None if template is None else _compiled(str(template), path),
        prompt=PromptSpec(
            chat_template="chat_template.jinja" if template is not None else None,
            bos_token_id=bos,
            add_bos=bool(file.metadata.get("tokenizer.ggml.add_bos_token", False)),
            stop_token_ids=(eos,),
        ),
        precision="fp32",
        weight_files=(path,),
    )


def _refuse_vision_options(options: ExportOptions) -> None:
    chosen = {
        "--tokens": options.tokens,
        "--image-size": options.image_size,
        "--compressor": options.compressor,
    }
    if odd := [flag for flag, value in chosen.items() if value is not None]:
        raise ConfigError(f"{', '.join(odd)}: this model takes text only")


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _template(folder: Path, settings: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return _compiled(read_text(path), path)
    template = settings.get("chat_template")
    return _compiled(template, folder) if isinstance(template, str) else None


def _compiled(template: str, place: Path) -> str:
    """The template itself; CheckpointError if the runtime could not compile it."""
    try:
        ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
    except TemplateError as exc:
        raise CheckpointError(f"{place}: the chat template does not compile: {exc}") from exc
    return template


def _token_ids(folder: Path, key: str, value: Any) -> tuple[int, ...]:
    try:
        return tuple(map(int, value if isinstance(value, list) else [value]))
    except (TypeError, ValueError) as exc:
        raise CheckpointError(f"{folder}: {key} {value!r} is no token id") from exc


def _bos_id(folder: Path, *configs: dict[str, Any]) -> int | None:
    for config in configs:
        if "bos_token_id" in config:
            value = config["bos_token_id"]
            return None if value in (None, []) else _token_ids(folder, "bos_token_id", value)[0]
    return None


def _stop_ids(folder: Path, *configs: dict[str, Any]) -> tuple[int, ...]:
    for config in configs:
        value = config.get("eos_token_id")
        if value not in (None, []):
            return _token_ids(folder, "eos_token_id", value)
    raise CheckpointError(f"{folder}: neither generation_config.json nor config.json names an end")


def _licenses(folder: Path) -> dict[str, str]:
    named = (p for p in folder.iterdir() if p.name.upper().startswith("LICENSE"))
    return {p.name: read_text(p) for p in sorted(named) if p.is_file()}
