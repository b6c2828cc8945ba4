"""Compare a bundle's graphs with the reference stored in its probe.

``python -m edgevlm.runtime.model.certify BUNDLE`` prints the certificate as JSON; the exporter
runs it as a child process, so that the two halves share only the bundle.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, read_manifest
from edgevlm.bundle.probe_case import ProbeCase, cases
from edgevlm.errors import (
    BackendUnavailable,
    EngineMismatch,
    EngineUntrusted,
    GraphRefused,
)
from edgevlm.parity import (
    BackendParity,
    Certificate,
    StageParity,
    judge_greedy,
    judge_logits,
    judge_stage,
)
from edgevlm.registry import BACKENDS
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.batch_shape import measure
from edgevlm.runtime.model.certify_cases import certify_cases
from edgevlm.runtime.model.decoder import open_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.probe_encoder import certify_encoders

REFERENCE = "numpy float32, from the source weights"
DEFAULT = "ort-cpu"
# ONNX Runtime's CPU provider has few kernels for half precision. Around all other operators it
# casts, and it takes out the casts between two of them: what is certified there is weights rounded
# to half precision, computed in float32, and no product overflows.
EMULATES_HALF = frozenset({"ort-cpu"})


def certify(bundle: Bundle, backend: Backend) -> BackendParity:
    """Run the probe on one backend.

    Raises:
        BundleCorrupt: the probe is missing or damaged.
        BackendError: a graph does not run.
    """
    bundle = backend.select(bundle)
    found = _certify(bundle, backend)
    halves = any(graph.precision == "fp16" for graph in bundle.manifest.graphs.values())
    if halves and found.status == "measured" and backend.name in EMULATES_HALF:
        return found.model_copy(update={"status": "emulated"})
    return found


def _certify(bundle: Bundle, backend: Backend) -> BackendParity:
    root = bundle.root / "probe"
    if "decoder" not in bundle.manifest.graphs:
        return certify_encoders(bundle, backend, cases(root))
    if (found := cases(root)) or bundle.manifest.decoder is None:
        return certify_cases(bundle, backend, found)
    return _certify_rows(bundle, backend, ProbeCase(root))


def certificate(bundle: Bundle) -> Certificate:
    """Measure every backend of this machine; the others are named: absent, or compiled.

    Raises:
        BackendUnavailable: there is none.
    """
    measured = [_measured(bundle, name) for name in BACKENDS.known()]
    if all(b.status == "absent" for b in measured):
        raise BackendUnavailable(
            f"none of the backends {', '.join(BACKENDS.known())} is on this machine: "
            "pip install 'edgevlm[cpu]'"
        )
    named = bundle.root / "probe" / "reference.txt"
    found = Certificate(
        reference=named.read_text("utf-8").strip() if named.is_file() else REFERENCE,
        precision=bundle.manifest.precision,
        backends=tuple(measured),
    )
    return found.with_engines(made.parity for made in bundle.manifest.engines.values())


def _measured(bundle: Bundle, name: str) -> BackendParity:
    try:
        return certify(bundle, open_backend(name, spin=False))
    except BackendUnavailable:
        return BackendParity(backend=name, status="absent")
    except (GraphRefused, EngineMismatch, EngineUntrusted):
        if name == DEFAULT:  # what is made for it must run on it
            raise
        return BackendParity(backend=name, status="refused")


def _certify_rows(bundle: Bundle, backend: Backend, probe: ProbeCase) -> BackendParity:
    """The probe of models that are computed in numpy: rows in, logits out."""
    manifest = bundle.manifest
    stages: list[StageParity] = []
    table = EmbeddingTable(bundle)
    parts = [table.rows(probe.load("before").tolist())]
    if "vision" in manifest.graphs:
        entry = manifest.graphs["vision"]
        graph = backend.load(bundle.path(entry.file))
        outputs = graph.run({"image": probe.load("image")})
        graph.close()
        for name, found in outputs.items():
            reference = probe.load(f"vision.{name}")
            stages.append(judge_stage(f"vision.{name}", entry.precision, reference, found))
        tokens = probe.load("vision.visual_tokens")
        shown = slice(None) if manifest.visual_tokens is None else manifest.visual_tokens.rows()
        parts.append(tokens[shown])
        stages += _certify_heads(bundle, backend, probe)
    parts.append(table.rows(probe.load("after").tolist()))

    tokens = probe.load("tokens")
    rows = np.concatenate([*parts, table.rows(tokens[:-1].tolist())])
    entry = manifest.graphs["decoder"]
    graph = backend.load(bundle.path(entry.file))
    decoder = open_decoder(manifest, graph)
    found = decoder.append(rows, logits=len(tokens)).copy()
    batch_shape = measure(decoder, table, backend)
    decoder.close()
    graph.close()
    reference = probe.load("logits")
    logits = judge_logits(entry.precision, reference, found[: len(reference)])
    greedy = judge_greedy(tokens, probe.load("gaps"), found, logits.max_abs)
    return BackendParity(
        backend=backend.name,
        status="measured",
        stages=tuple(stages),
        logits=logits,
        greedy=greedy,
        batch_shape=batch_shape,
    )


def _certify_heads(bundle: Bundle, backend: Backend, probe: ProbeCase) -> list[StageParity]:
    """Every other graph whose case the probe holds; the rest of its inputs are the encoder's."""
    stages = []
    for graph_name, entry in bundle.manifest.graphs.items():
        stage = graph_name.rpartition("/")[2]
        if graph_name in ("vision", "decoder") or not (there := probe.names(f"{stage}.")):
            continue
        graph = backend.load(bundle.path(entry.file))
        feeds = {
            t.name: probe.load(f"{stage if f'{stage}.{t.name}' in there else 'vision'}.{t.name}")
            for t in graph.inputs
        }
        for name, found in graph.run(feeds).items():
            reference = probe.load(f"{stage}.{name}")
            stages.append(judge_stage(f"{stage}.{name}", entry.precision, reference, found))
        graph.close()
    return stages


def main(arguments: list[str]) -> int:
    """Certify a staged bundle, whose files are not hashed yet, and print the certificate."""
    root = Path(arguments[0])
    found = certificate(Bundle(root, read_manifest(root)))
    sys.stdout.write(found.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
