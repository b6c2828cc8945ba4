"""The graphs of the layout, written from a checkpoint's weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onnx import TensorProto
from onnx.external_data_helper import load_external_data_for_model

from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.errors import CheckpointError
from edgevlm.export.decoder import hf_merged
from edgevlm.export.decoder.weights import WeightSource
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.hf_import.files import DECODERS, EMBED, SUFFIXES, VISION
from edgevlm.export.hf_import.model_file import ModelFile
from edgevlm.export.hf_layout.vision import as_vision_encoder
from edgevlm.export.model_parts import ModelParts
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.vision_part import VisionGraph

BATCHED = ("smolvlm", "idefics3")
TILES = ("fast_vlm", "internvl")
INLINE_LIMIT = 1_800_000_000  # of a file that protobuf reads; beyond it data lies beside


def check_parts(parts: ModelParts) -> tuple[DecoderSpec, WeightSource]:
    """The decoder, where the layout can hold the model.

    Raises:
        CheckpointError: it cannot, with the reason.
    """
    known = f"it is written for text models and {', '.join((*BATCHED, *TILES))}"
    if parts.spec is None or parts.weights is None:
        raise CheckpointError(
            f"--layout hf: {parts.family} is no decoder-only language model; {known}"
        )
    if parts.image is not None and parts.family not in (*BATCHED, *TILES):
        raise CheckpointError(
            f"--layout hf: the layout leaves out what {parts.family} needs beside its tiles; "
            f"{known}"
        )
    hf_merged.check_spec(parts.spec)
    return parts.spec, parts.weights


def write_graphs(
    folder: Path, parts: ModelParts, plan: PrecisionPlan, progress: Progress
) -> tuple[Path, ...]:
    """Write ``onnx/*.onnx``.

    Args:
        folder: ``onnx``, there already and empty.
        parts: the gathered model, which ``check_parts`` has taken.
        plan: precisions.
        progress: told after every layer and file.

    Returns:
        the graphs.
    """
    spec, weights = check_parts(parts)
    suffix = SUFFIXES[plan.default][0]
    written = []
    for part in parts.parts:
        assert isinstance(part, VisionGraph)
        path = folder / f"{VISION}{suffix}.onnx"
        replace(part, name=path.stem).lower(folder, plan, progress)
        file = as_vision_encoder(path, batched=parts.family in BATCHED)
        written.append(_settled(file, path))
    ids = not written
    if not ids:
        path = folder / f"{EMBED}{suffix}.onnx"
        _embed_tokens(path, spec, weights, plan)
        written.append(_settled(ModelFile(path), path))
        progress.step("embed_tokens")
    path = folder / f"{DECODERS[1] if ids else DECODERS[0]}{suffix}.onnx"
    with DataFile(path.with_name(f"{path.name}.data")) as data:
        hf_merged.lower(spec, weights, plan, data, progress, ids=ids).save(path)
    written.append(_settled(ModelFile(path), path))
    return tuple(written)


def _embed_tokens(
    path: Path, spec: DecoderSpec, weights: WeightSource, plan: PrecisionPlan
) -> None:
    """``input_ids`` to ``inputs_embeds``; the table keeps its digits where matrices are blocks."""
    with DataFile(path.with_name(f"{path.name}.data")) as data:
        g = GraphBuilder(EMBED, data, hf_merged.OPSET, hf_merged.IR_VERSION)
        g.input("input_ids", "int64", ("batch_size", "sequence_length"))
        shape = ("batch_size", "sequence_length", spec.hidden_size)
        g.output("inputs_embeds", "float32", shape)
        g.weight(f"{EMBED}.weight", weights.get("embed_tokens.weight").astype(plan.float_dtype))
        rows = g.node("Gather", [f"{EMBED}.weight", "input_ids"], EMBED, axis=0)
        g.node("Cast", [rows], EMBED, outputs=["inputs_embeds"], to=TensorProto.FLOAT)
        g.save(path)


def _settled(file: ModelFile, path: Path) -> Path:
    """Put the weights into the file, or, where it would grow too large, into ``.onnx_data``."""
    data = path.with_name(f"{path.name}.data")
    if data.stat().st_size <= INLINE_LIMIT:
        load_external_data_for_model(file.model, str(path.parent))
        data.unlink()
    else:
        beside = path.with_name(f"{path.name}_data")
        data.rename(beside)
        file.relocate(beside.name)
    path.write_bytes(file.model.SerializeToString(deterministic=True))
    return path
