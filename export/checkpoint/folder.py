"""A Hugging Face checkpoint folder: configs, tokenizer, template and tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.adapter import AdaptedTensors
from edgevlm.export.checkpoint.files import read_json, read_text, reason
from edgevlm.export.checkpoint.open_clip import open_clip_config
from edgevlm.export.checkpoint.packed import PackedTensors
from edgevlm.export.checkpoint.tensors import StoredTensors, Tensors, View
from edgevlm.export.checkpoint.tokenizer_convert import convert_tokenizer
from edgevlm.tensors import Float32


class Checkpoint:
    """A checkpoint folder, each file read when it is asked for, and once.

    Args:
        folder: where it is.
        adapter: folder of a peft adapter to merge into its tensors.
    """

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self.folder = folder
        self.adapter = adapter

    @property
    def name(self) -> str:
        """Shown to people."""
        return self.folder.resolve().name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The parsed ``config.json``, or what stands for it in open_clip's checkpoints."""
        path = self.folder / "config.json"
        found = read_json(path) if path.is_file() else {}
        if "model_type" not in found and (other := open_clip_config(self.folder)) is not None:
            return other
        return found or read_json(path)

    @property
    def model_type(self) -> str:
        """As in ``config.json``."""
        return str(self.config.get("model_type"))

    @property
    def license(self) -> str:
        """As in ``config.json``, or ``unknown``."""
        return str(self.config.get("license", "unknown"))

    @cached_property
    def _stored(self) -> StoredTensors:
        return StoredTensors(self.folder)

    @cached_property
    def quantization(self) -> dict[str, Any]:
        """How the weights are quantised, as the configuration says; or nothing."""
        text = self.config.get("text_config")
        for place in (self.config, text if isinstance(text, dict) else {}):
            for key in ("quantization_config", "compression_config"):
                if isinstance(place.get(key), dict):
                    return dict(place[key])
        older = self._optional("quantize_config.json")  # of AutoGPTQ
        return {"quant_method": "gptq", **older} if older else {}

    @cached_property
    def _unpacked(self) -> Tensors:
        settings = self.quantization
        stored = self._stored
        return PackedTensors(stored, settings, str(self.folder)) if settings else stored

    @cached_property
    def tensors(self) -> Tensors:
        """Every tensor under its stored name, 4-bit ones unpacked, an adapter merged."""
        return self._unpacked if self._adapted is None else self._adapted

    @cached_property
    def _adapted(self) -> AdaptedTensors | None:
        return None if self.adapter is None else AdaptedTensors(self._unpacked, self.adapter)

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        return sum(math.prod(self.tensors.shape(name)) for name in self.tensors.names)

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """What the source hash covers."""
        adapter = () if self._adapted is None else (self._adapted.path,)
        return (*self._stored.files, *adapter)

    def view(
        self,
        *prefixes: str,
        transform: Callable[[str, Float32], Float32] | None = None,
        rename: Callable[[str], str] = str,
    ) -> View:
        """Tensors whose stored names begin with one of ``prefixes``, without it."""
        return View(self.tensors, prefixes, str(self.folder), transform, rename)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer: ``tokenizer.json``, or made from vocabulary files.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            return convert_tokenizer(self.folder)
        text = read_text(path)
        try:
            return Tokenizer.from_str(text)
        except Exception as exc:  # the tokenizers library raises plain Exception
            raise CheckpointError(f"{path} is not a tokenizer: {reason(exc)}") from exc

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """The parsed ``tokenizer_config.json``, or nothing."""
        return self._optional("tokenizer_config.json")

    @cached_property
    def generation(self) -> dict[str, Any]:
        """The parsed ``generation_config.json``, or nothing."""
        return self._optional("generation_config.json")

    @cached_property
    def processor(self) -> dict[str, Any]:
        """The image processor's settings, from whichever file holds them; or nothing."""
        whole = self._optional("processor_config.json")
        nested = whole.get("image_processor")
        own = self._optional("preprocessor_config.json")
        return own or (dict(nested) if isinstance(nested, dict) else {})

    @cached_property
    def processor_options(self) -> dict[str, Any]:
        """The settings of the processor around the image processor, or nothing."""
        return self._optional("processor_config.json")

    @cached_property
    def chat_template(self) -> str | None:
        """The jinja2 source.

        Raises:
            CheckpointError: it does not compile.
        """
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return compiled(read_text(path), path)
        for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
            template = self._optional(name).get("chat_template")
            if isinstance(template, str):
                return compiled(template, self.folder / name)
        return None

    @cached_property
    def licenses(self) -> dict[str, str]:
        """Licence texts by file name."""
        named = (p for p in self.folder.iterdir() if p.name.upper().startswith("LICENSE"))
        return {p.name: read_text(p) for p in sorted(named) if p.is_file()}

    def token_id(self, text: str) -> int:
        """The id of one token.

        Raises:
            CheckpointError: the tokenizer has no such token.
        """
        found = self.tokenizer.token_to_id(text)
        if found is None:
            raise CheckpointError(f"{self.folder}: the tokenizer has no token {text!r}")
        return int(found)

    def named_token(self, key: str) -> str | None:
        """A token that ``tokenizer_config.json`` has a name for, such as ``image_token``."""
        named = self.tokenizer_config.get("extra_special_tokens")
        for place in (self.tokenizer_config, named if isinstance(named, dict) else {}):
            value = place.get(key)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                return value
        return None

    def bos_id(self) -> int | None:
        """The token that begins a text, if there is one."""
        for config in self._configs():
            if "bos_token_id" in config:
                value = config["bos_token_id"]
                return None if value in (None, []) else self._ids("bos_token_id", value)[0]
        return None

    def stop_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer.

        Raises:
            CheckpointError: no config names one.
        """
        for config in self._configs():
            value = config.get("eos_token_id")
            if value not in (None, []):
                return self._ids("eos_token_id", value)
        raise CheckpointError(
            f"{self.folder}: neither generation_config.json nor config.json names an end"
        )

    def _configs(self) -> list[dict[str, Any]]:
        text = self.config.get("text_config")
        return [self.generation, self.config, *([text] if isinstance(text, dict) else [])]

    def _ids(self, key: str, value: Any) -> tuple[int, ...]:
        try:
            return tuple(map(int, value if isinstance(value, list) else [value]))
        except (TypeError, ValueError) as exc:
            raise CheckpointError(f"{self.folder}: {key} {value!r} is no token id") from exc

    def _optional(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return read_json(path) if path.is_file() else {}


def compiled(template: str, place: Path) -> str:
    """The template itself.

    Raises:
        CheckpointError: the runtime could not compile it.
    """
    try:
        ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        ).from_string(template)
    except TemplateError as exc:
        raise CheckpointError(f"{place}: the chat template does not compile: {exc}") from exc
    return template
