"""What the manifest of an exported model says."""

from __future__ import annotations

import hashlib
import importlib.metadata
from typing import Literal, TypeAlias

from edgevlm.bundle import Manifest
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.files import sha256_file
from edgevlm.bundle.manifest import ConvLayout, GraphEntry, KVLayout, Precision, WeightEntry
from edgevlm.bundle.provenance import FileEntry, MemoryPlan, ParitySummary, SourceModel
from edgevlm.export.model_parts import ModelParts

CacheDtype: TypeAlias = Literal["float32", "float16"]


def make_manifest(
    parts: ModelParts,
    precision: Precision,
    capacity: int,
    graphs: dict[str, GraphEntry],
    weights: dict[str, WeightEntry],
    files: dict[str, FileEntry],
    hashes: dict[str, str],
    parity: ParitySummary | None,
) -> Manifest:
    """Put the manifest together.

    Args:
        parts: the gathered model.
        precision: of the decoder.
        capacity: tokens that the KV cache holds.
        graphs: what was lowered.
        weights: where each weight lies.
        files: size and hash of every file written.
        hashes: of the source's weight files, from ``source_hashes``.
        parity: the verdict, once there is one.

    Raises:
        ValidationError: parts that do not fit together.
    """
    kv = parts.kv
    if parts.spec is not None:
        kv = _kv_layout(parts.spec, _cache_dtype(graphs, precision), capacity)
    table = weights.get("embedding")
    segments = [s for s in (table.values, table.scales) if s is not None] if table else []
    return Manifest(
        name=parts.name,
        family=parts.family,
        precision=precision,
        source=SourceModel(
            name=parts.name,
            family=parts.family,
            sha256=hashlib.sha256("".join(hashes[n] for n in sorted(hashes)).encode()).hexdigest(),
            license=parts.license,
            parts=hashes,
        ),
        exporter={n: importlib.metadata.version(n) for n in ("edgevlm", "onnx", "numpy")},
        graphs=graphs,
        decoder=parts.spec,
        weights=weights,
        image=parts.image,
        visual_tokens=parts.visual_tokens,
        prompt=parts.prompt,
        kv=kv,
        memory=MemoryPlan(
            weights=sum(e.size for n, e in files.items() if n.endswith(".data")),
            kv_cache=kv.bytes_per_token * kv.capacity + kv.conv_bytes if kv else 0,
            embedding=sum(s.nbytes for s in segments),
        ),
        parity=parity,
        licenses=tuple(f"LICENSES/{n}" for n in sorted(parts.licenses)),
        files=files,
        **parts.sections,
    )


def source_hashes(parts: ModelParts) -> dict[str, str]:
    """SHA-256 of every weight file of the source, by file name."""
    return {path.name: sha256_file(path) for path in parts.weight_files}


def _cache_dtype(graphs: dict[str, GraphEntry], precision: Precision) -> CacheDtype:
    """What the decoder says; before it is written, what its precision makes of it."""
    inputs = graphs["decoder"].inputs if "decoder" in graphs else ()
    cache = {t.dtype for t in inputs if t.name.startswith("past_key_values.")}
    half = cache == {"float16"} if cache else precision == "fp16"
    return "float16" if half else "float32"


def _kv_layout(spec: DecoderSpec, dtype: CacheDtype, capacity: int) -> KVLayout:
    conv = None
    if spec.conv_kernel is not None and spec.conv_layers:
        conv = ConvLayout(
            layers=spec.conv_layers, columns=spec.conv_kernel - 1, width=spec.hidden_size
        )
    return KVLayout(
        layers=spec.num_layers,
        kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        capacity=capacity,
        dtype=dtype,
        conv=conv,
    )
