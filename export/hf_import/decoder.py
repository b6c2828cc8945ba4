"""A published decoder graph, held against the configuration beside it."""

from __future__ import annotations

from typing import Any

from onnx import helper

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.hf_import.embedding import IDS, ROWS
from edgevlm.export.hf_import.model_file import ModelFile, all_nodes

PAST, PRESENT = "past_key_values.", "present."
KNOWN = {ROWS, IDS, "attention_mask", "position_ids", "num_logits_to_keep", "use_cache_branch"}
ACCURACY_INT8 = 4


def check_decoder(file: ModelFile, spec: DecoderSpec) -> None:
    """Refuse a graph that the runtime's growing cache cannot serve.

    Raises:
        CheckpointError: unknown inputs, a cache of another shape than the configuration makes it,
            or a model whose rows need more than their embeddings.
    """
    odd = {
        "three rotary positions a row": spec.mrope_section is not None,
        "features added behind the first layers": spec.deepstack_levels > 0,
        "a prompt that sees itself in both directions": spec.prefix_attention,
    }
    if named := [what for what, there in odd.items() if there]:
        raise CheckpointError(
            f"{file.path}: graphs of models with {', '.join(named)} are not imported; export the "
            "checkpoint itself"
        )
    inputs = {t.name: t for t in file.inputs()}
    caches = {f"{PAST}{i}.{part}" for i in range(spec.num_layers) for part in ("key", "value")}
    lost = caches - inputs.keys()
    if lost or (strange := sorted(inputs.keys() - caches - KNOWN)):
        raise CheckpointError(
            f"{file.path}: "
            + (f"lacks {', '.join(sorted(lost)[:3])}" if lost else f"takes {', '.join(strange)}")
            + f"; config.json makes it a decoder of {spec.num_layers} layers with a growing cache"
        )
    given = {t.name for t in file.outputs()}
    if lost := {"logits", *(PRESENT + n.removeprefix(PAST) for n in caches)} - given:
        raise CheckpointError(f"{file.path} does not give {', '.join(sorted(lost)[:3])}")
    for name in sorted(caches):
        shape = inputs[name].shape
        wanted = ("batch", spec.num_kv_heads, "past", spec.head_dim)
        fits = len(shape) == 4 and all(
            not isinstance(a, int) or a == b for a, b in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise CheckpointError(f"{file.path}: {name} is {shape}; config.json makes it {wanted}")


def raise_accuracy(file: ModelFile) -> tuple[str, ...]:
    """Let 4-bit products compute with int8 activations, where the graph leaves it open.

    Level 0 unpacks the weights to float32 at every call: ten times slower on a CPU and more.

    Returns:
        what was changed, in words.
    """
    changed = 0
    for node in all_nodes(file.graph):
        if node.op_type != "MatMulNBits":
            continue
        level: Any = next((a for a in node.attribute if a.name == "accuracy_level"), None)
        if level is None:
            node.attribute.append(helper.make_attribute("accuracy_level", ACCURACY_INT8))
        elif level.i == 0:
            level.i = ACCURACY_INT8
        else:
            continue
        changed += 1
    if not changed:
        return ()
    return (f"accuracy_level {ACCURACY_INT8} in place of 0 in {changed} MatMulNBits",)
