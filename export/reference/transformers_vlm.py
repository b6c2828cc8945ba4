"""The source model itself, run by transformers in a child process.

``python -m edgevlm.export.reference.transformers_vlm CHECKPOINT CASES [ADAPTER]`` answers every
conversation under ``CASES`` and writes what the model computed beside its inputs. The pictures come
as the bundle's own runtime prepared them, so that a difference found later is the graphs' and not
the resizing's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.bundle.probe_case import (
    GREEDY_STEPS,
    LOGIT_POSITIONS,
    ProbeCase,
    cases,
    sample_rows,
)
from edgevlm.errors import CheckpointError
from edgevlm.export.checkpoint import Checkpoint
from edgevlm.export.models.hf_config import full_config
from edgevlm.export.reference.pretrained import checked, load_pretrained
from edgevlm.export.reference.unpacked import load_unpacked
from edgevlm.registry import FAMILIES
from edgevlm.tensors import Array


def main(arguments: list[str]) -> int:
    """Answer every case; the last line of stderr says what went wrong."""
    folder, root = Path(arguments[0]), Path(arguments[1])
    adapter = Path(arguments[2]) if len(arguments) > 2 else None
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        checkpoint = Checkpoint(folder)
        family = FAMILIES.resolve(checkpoint.model_type)
        model = load_model(folder, adapter)
        config = full_config(folder)
        for case in cases(root):
            answer(model, family, checkpoint, config, case)
        (root / "reference.txt").write_text(_reference_name() + "\n", "utf-8")
    except (CheckpointError, ImportError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _reference_name() -> str:
    import torch
    import transformers

    return f"transformers {transformers.__version__}, float32, torch {torch.__version__}"


def load_model(folder: Path, adapter: Path | None) -> Any:
    """The checkpoint in float32, an adapter merged by peft.

    Raises:
        CheckpointError: transformers refuses it, or weights are missing from the files.
    """
    from transformers import GenerationConfig

    if (checkpoint := Checkpoint(folder)).quantization:
        model = checked(folder, lambda: load_unpacked(checkpoint))
    else:
        whole = adapter is not None  # peft would merge into the checkpoint's own files
        model = load_pretrained("AutoModelForImageTextToText", folder, whole=whole)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    # The probe is about the model: its own most probable tokens, whatever rules its answers have.
    start = model.generation_config.decoder_start_token_id
    model.generation_config = GenerationConfig(decoder_start_token_id=start)
    return model


def answer(
    model: Any, family: Any, checkpoint: Checkpoint, config: dict[str, Any], case: ProbeCase
) -> None:
    """Run one conversation greedily and write stages, logits and tokens.

    Raises:
        CheckpointError: the model's own logits are not finite.
    """
    import torch
    from transformers import GenerationConfig

    ids = case.load("ids")
    inputs = {
        name: torch.from_numpy(np.ascontiguousarray(value))
        for name, value in family.reference_inputs(checkpoint, config, case).items()
    }
    prompt = torch.from_numpy(ids)[None]
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=GREEDY_STEPS,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    layers = model.get_submodule(family.reference_layers)
    with (
        torch.inference_mode(),
        _watch(model, family.reference_stages, whole=True) as stages,
        _watch_modules({"first": layers[0], "last": layers[-1]}, whole=False) as hidden,
    ):
        done = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=settings,
            **inputs,
        )
    rows = np.concatenate([step.float().numpy() for step in done.logits])
    if not np.isfinite(rows).all():
        raise CheckpointError("the checkpoint's own logits are not finite: its weights are damaged")
    ordered = np.sort(np.partition(rows, -2, axis=-1)[:, -2:], axis=-1)
    case.save("tokens", rows.argmax(-1).astype(np.int64))
    case.save("gaps", (ordered[:, 1] - ordered[:, 0]).astype(np.float32))
    case.save("logits", rows[:LOGIT_POSITIONS])
    for name, parts in stages.items():
        case.save(f"stage.{name}", sample_rows(_joined(parts)))
    for name, parts in hidden.items():
        case.save(f"stage.hidden.{name}", np.concatenate(parts).astype(np.float32))


def _joined(parts: list[Array]) -> Array:
    width = parts[0].shape[-1]
    return np.concatenate([part.reshape(-1, width) for part in parts])


@contextmanager
def _watch(model: Any, places: dict[str, str], *, whole: bool) -> Iterator[dict[str, list[Array]]]:
    modules = {name: model.get_submodule(path) for name, path in places.items()}
    with _watch_modules(modules, whole=whole) as seen:
        yield seen


@contextmanager
def _watch_modules(modules: dict[str, Any], *, whole: bool) -> Iterator[dict[str, list[Array]]]:
    """Keep what modules give: all of it, or the last position of every call."""
    seen: dict[str, list[Array]] = {name: [] for name in modules}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            value = getattr(output, "last_hidden_state", output)
            value = value[0] if isinstance(value, tuple | list) else value
            value = value if whole else value[:, -1]
            seen[name].append(value.detach().float().numpy())

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
