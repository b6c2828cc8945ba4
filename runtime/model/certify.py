"""Compare a bundle's graphs with the reference stored in its probe.

``python -m edgevlm.runtime.model.certify BUNDLE`` prints the certificate as JSON; the exporter
runs it as a child process, so that the two halves share only the bundle.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, read_manifest
from edgevlm.errors import BackendError, BundleCorrupt
from edgevlm.parity import (
    BackendParity,
    Certificate,
    StageParity,
    judge_greedy,
    judge_logits,
    judge_stage,
)
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.load import open_backend
from edgevlm.tensors import Array

REFERENCE = "numpy float32, from the source weights"


def certify(bundle: Bundle, backend: Backend) -> BackendParity:
    """Run the probe on one backend.

    Raises:
        BundleCorrupt: the probe is missing or damaged.
        BackendError: a graph does not run.
    """
    manifest = bundle.manifest
    stages: list[StageParity] = []
    table = EmbeddingTable(bundle)
    parts = [table.rows(_probe(bundle, "before").tolist())]
    if "vision" in manifest.graphs:
        entry = manifest.graphs["vision"]
        graph = backend.load(bundle.path(entry.file))
        outputs = graph.run({"image": _probe(bundle, "image")})
        graph.close()
        for name, found in outputs.items():
            reference = _probe(bundle, f"vision.{name}")
            stages.append(judge_stage(f"vision.{name}", entry.precision, reference, found))
        parts.append(_probe(bundle, "vision.visual_tokens"))
    parts.append(table.rows(_probe(bundle, "after").tolist()))

    tokens = _probe(bundle, "tokens")
    rows = np.concatenate([*parts, table.rows(tokens[:-1].tolist())])
    entry = manifest.graphs["decoder"]
    graph = backend.load(bundle.path(entry.file))
    decoder = CachedDecoder(graph, manifest.kv, manifest.decoder.vocab_size)
    found = decoder.append(rows, logits=len(tokens)).copy()
    decoder.close()
    graph.close()
    if not np.isfinite(found).all():
        raise BackendError(f"{backend.name} gives logits that are not finite")
    reference = _probe(bundle, "logits")
    logits = judge_logits(entry.precision, reference, found[: len(reference)])
    greedy = judge_greedy(tokens, _probe(bundle, "gaps"), found, logits.max_abs)
    return BackendParity(
        backend=backend.name,
        status="measured",
        stages=tuple(stages),
        logits=logits,
        greedy=greedy,
    )


def _probe(bundle: Bundle, name: str) -> Array:
    path = bundle.root / "probe" / f"{name}.npy"
    try:
        value: Array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as exc:
        raise BundleCorrupt(f"{path} is missing or damaged: {exc}") from exc
    return value


def main(arguments: list[str]) -> int:
    """Certify a staged bundle, whose files are not hashed yet, and print the certificate."""
    root = Path(arguments[0])
    bundle = Bundle(root, read_manifest(root))
    measured = certify(bundle, open_backend("ort-cpu", spin=False))
    certificate = Certificate(
        reference=REFERENCE, precision=bundle.manifest.precision, backends=(measured,)
    )
    sys.stdout.write(certificate.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
