"""What the certificate says of every family's tiny checkpoint, in every precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnx

from docs.widths import even_widths
from edgevlm.bundle.manifest import Manifest, Precision
from edgevlm.cli.parity_table import repairs
from edgevlm.errors import EdgeVLMError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.parity import BackendParity
from tests import oracles
from tests.export import test_gemma, test_lfm2
from tests.export import tiny as texts
from tests.export.encoders import test_mobileclip, tiny_sam, tiny_sam_clip
from tests.export.encoders.test_embeddings import FAMILIES as ENCODERS
from tests.export.vlm import tiny as chats
from tests.export.vlm.test_chat_families import FAMILIES as CHATS

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
Make = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One export; numbers are None where the family has no such output, or nothing was written."""

    family: str
    precision: str
    cosine: float | None = None
    logits: float | None = None
    kl_nats: float | None = None
    greedy: str = ""
    gates: str = ""
    stored: int = 0


def _mobileclip(folder: Path) -> None:
    questions = folder.with_suffix(".json")
    questions.write_text(json.dumps({"images": [], "texts": ["red"]}))
    oracles.run(
        "tests.export.encoders.mobileclip_source",
        folder, test_mobileclip.FORMS[1], questions, folder.with_suffix(".npz"),
    )  # fmt: skip


def _text(kind: str) -> Make:
    return lambda folder: texts.save(folder, texts.config(kind))


def _gemma(kind: str) -> Make:
    return lambda folder: texts.save(folder, test_gemma.config(kind, hidden_size=96, head_dim=32))


# By the names of the registry; `+` joins those that one checkpoint stands for.
CHAT: dict[str, Make] = {
    "smolvlm": CHATS["smolvlm"],
    "idefics3": CHATS["idefics3"],
    "llava_onevision": CHATS["llava_onevision"],
    "internvl": CHATS["internvl"],
    "fast_vlm": CHATS["fast_vlm folded"],
    "paligemma": chats.paligemma,
    "paligemma (Gemma 2)": lambda folder: chats.paligemma(folder, "gemma2"),
    "qwen2_vl": CHATS["qwen2_vl"],
    "qwen2_5_vl": CHATS["qwen2_5_vl"],
    "qwen3_vl": CHATS["qwen3_vl"],
    "lfm2_vl": CHATS["lfm2_vl"],
    "florence2": chats.florence2,
}
TEXT: dict[str, Make] = {
    "llama": _text("llama"),
    "qwen2": _text("qwen2"),
    "qwen3": _text("qwen3"),
    "gemma": _gemma("gemma"),
    "gemma2": _gemma("gemma2"),
    "gemma3_text": _gemma("gemma3_text"),
    "lfm2": lambda folder: texts.save(
        folder,
        test_lfm2.config(
            hidden_size=96, block_multiple_of=32, **test_lfm2.KINDS["convolution first and last"]
        ),
    ),
}
ENCODER: dict[str, Make] = {
    "clip": ENCODERS["clip"],
    "clip_vision_model": ENCODERS["clip's vision tower"],
    "siglip + siglip_vision_model": ENCODERS["siglip"],
    "siglip2 + siglip2_vision_model": ENCODERS["siglip2"],
    "dinov2": ENCODERS["dinov2"],
    "dinov2_with_registers": ENCODERS["dinov2 registers"],
    "mobileclip": _mobileclip,
    "sam": tiny_sam.sam,
    "sam_clip": tiny_sam_clip.sam_clip,
}
FAMILIES = {**CHAT, **TEXT, **ENCODER}


def exports(chosen: list[str]) -> list[tuple[str, Precision]]:
    """Every family in every precision; encoders have no 4 bits."""
    return [
        (family, precision)
        for family in chosen
        for precision in PRECISIONS
        if not (family in ENCODER and precision == "int4")
    ]


def measure(folder: Path, family: str, precision: Precision) -> Row:
    """Export once, whatever the gates say.

    Args:
        folder: an empty one, for the checkpoint and the bundle.
        family: of ``FAMILIES``, or ``nano``.
        precision: of the bundle.
    """
    source, target = "nano", folder / "bundle"
    if family != "nano":
        source = str(folder / "checkpoint")
        with even_widths():
            FAMILIES[family](Path(source))
    options = ExportOptions(precision=precision, allow_drift=True)
    # The source model of FastVLM needs timm.
    with mock.patch.dict("os.environ", {"PYTHONPATH": oracles.search_path()}):
        try:
            done = export(source, target, options)
        except EdgeVLMError as exc:
            return Row(family, precision, gates=f"refused: {exc}")
    assert done.manifest is not None
    found = done.certificate.backends[0]
    gated = [stage.cosine for stage in found.stages if stage.gate_cosine is not None]
    logits, greedy = found.logits, found.greedy
    return Row(
        family,
        precision,
        cosine=min(gated, default=None),
        logits=None if logits is None else logits.max_abs,
        kl_nats=None if logits is None else logits.kl_nats,
        greedy="" if greedy is None else f"{greedy.agreed}/{greedy.steps}",
        gates=_verdict(found, done.manifest),
        stored=stored_bytes(target, done.manifest),
    )


def _verdict(found: BackendParity, manifest: Manifest) -> str:
    verdict = f"missed: {', '.join(found.misses)}" if found.misses else "kept"
    verdict += ", repaired" if repairs(manifest) else ""
    known = ("measured", "emulated")  # the page says of fp16 that it is emulated
    return verdict if found.status in known else f"{verdict} ({found.status})"


def stored_bytes(bundle: Path, manifest: Manifest) -> int:
    """What graphs and tables hold, without the room between them that pages take."""
    inside = 0
    outside: dict[tuple[str, int], int] = {}
    for graph in manifest.graphs.values():
        model = onnx.load(str(bundle / graph.file), load_external_data=False)
        for tensor in model.graph.initializer:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            size = int(np.prod(tensor.dims)) * dtype.itemsize
            where = {entry.key: entry.value for entry in tensor.external_data}
            if where:
                outside[where["location"], int(where.get("offset", 0))] = size
            else:
                inside += size
    for weight in manifest.weights.values():
        for segment in (weight.values, weight.scales, weight.zeros):
            if segment is not None:
                outside[Path(segment.file).name, segment.offset] = segment.nbytes
    return inside + sum(outside.values())
