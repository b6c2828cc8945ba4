"""What the manifest of an exported model says."""

from __future__ import annotations

import hashlib
import importlib.metadata

from edgevlm.bundle import Manifest
from edgevlm.bundle.files import sha256_file
from edgevlm.bundle.manifest import (
    FileEntry,
    GraphEntry,
    KVLayout,
    MemoryPlan,
    ParitySummary,
    Precision,
    SourceModel,
    WeightEntry,
)
from edgevlm.export.model_parts import ModelParts


def make_manifest(
    parts: ModelParts,
    precision: Precision,
    capacity: int,
    graphs: dict[str, GraphEntry],
    weights: dict[str, WeightEntry],
    files: dict[str, FileEntry],
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
        parity: the verdict, once there is one.

    Raises:
        ValidationError: parts that do not fit together.
    """
    hashes = {path.name: sha256_file(path) for path in parts.weight_files}
    kv = KVLayout(
        layers=parts.spec.num_layers,
        kv_heads=parts.spec.num_kv_heads,
        head_dim=parts.spec.head_dim,
        capacity=capacity,
        dtype="float16" if precision == "fp16" else "float32",
    )
    table = weights["embedding"]
    segments = [s for s in (table.values, table.scales) if s is not None]
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
            kv_cache=kv.bytes_per_token * capacity,
            embedding=sum(s.nbytes for s in segments),
        ),
        parity=parity,
        licenses=tuple(f"LICENSES/{n}" for n in sorted(parts.licenses)),
        files=files,
    )
