"""The rules that a checkpoint gives its answers, from ``generation_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from edgevlm.bundle.generation import GenerationRules
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint.files import reason
from edgevlm.export.checkpoint.folder import Checkpoint

# Rules that change a greedy answer and that no supported checkpoint has asked for; with the values
# that mean nothing.
UNKNOWN: Mapping[str, tuple[Any, ...]] = {
    "bad_words_ids": (None, []),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "sequence_bias": (None, {}, []),
}


def generation_rules(
    checkpoint: Checkpoint, config: Mapping[str, Any] | None = None
) -> GenerationRules:
    """The rules; what a checkpoint says of sampling and beams is left to the caller of the model.

    Args:
        checkpoint: whose ``generation_config.json`` is read.
        config: where the settings stand if there is no such file; None takes ``config.json``.

    Raises:
        CheckpointError: a value that is none, or a rule that is not known here.
    """
    place, asked = "generation_config.json", dict(checkpoint.generation)
    if not asked:
        place, asked = "config.json", _old_settings(config or checkpoint.config)
    for key, idle in UNKNOWN.items():
        if asked.get(key) not in idle:
            raise CheckpointError(
                f"{checkpoint.folder}/{place} asks for {key} = {asked[key]!r:.60}, which is not "
                "supported; remove it if the answers may be without"
            )
    found = {
        "repetition_penalty": asked.get("repetition_penalty"),
        "no_repeat_ngram_size": asked.get("no_repeat_ngram_size"),
        "forced_bos_token_id": asked.get("forced_bos_token_id"),
        "forced_eos_token_ids": _several(asked.get("forced_eos_token_id")),
        "suppress_token_ids": _several(asked.get("suppress_tokens")),
        "begin_suppress_token_ids": _several(asked.get("begin_suppress_tokens")),
    }
    try:
        return GenerationRules.model_validate({k: v for k, v in found.items() if v is not None})
    except ValidationError as exc:
        raise CheckpointError(f"{checkpoint.folder}/{place}: {reason(exc)}") from exc


def _old_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Before there was a file for them: in the config, the language model's own behind it."""
    text = config.get("text_config")
    settings = {k: v for k, v in text.items() if v is not None} if isinstance(text, Mapping) else {}
    return settings | {k: v for k, v in config.items() if v is not None}


def _several(value: Any) -> Any:
    return [value] if isinstance(value, int) else value
