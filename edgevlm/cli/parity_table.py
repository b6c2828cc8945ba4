"""The parity certificate as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from edgevlm.bundle.manifest import REPAIRED, Manifest
from edgevlm.cli.console import table
from edgevlm.parity import Certificate, PictureParity


def repairs(manifest: Manifest) -> dict[str, str]:
    """What the exporter kept in a higher precision to keep the gates, by graph."""
    return {
        name: note.removeprefix(REPAIRED)
        for name, graph in manifest.graphs.items()
        for note in graph.notes
        if note.startswith(REPAIRED)
    }


def parity_table(certificate: Certificate, repaired: Mapping[str, str] | None = None) -> Table:
    """One row a stage, then logits, greedy tokens and the user's own pictures.

    Args:
        certificate: what was measured.
        repaired: what the exporter did to keep the gates, from ``repairs``.
    """
    rows = []
    for backend in certificate.backends:
        name = (
            backend.backend
            if backend.status == "measured"
            else (f"{backend.backend} ({backend.status})")
        )
        for stage in backend.stages:
            figures = f"cosine {stage.cosine:.7f}, max error {stage.max_abs:.3g}"
            gate = "" if stage.gate_cosine is None else f"cosine >= {stage.gate_cosine}"
            verdict = "" if stage.gate_cosine is None else _verdict(stage.passed)
            rows.append([name, stage.stage, stage.precision, figures, gate, verdict])
        if backend.logits is not None:
            logits = backend.logits
            figures = f"max error {logits.max_abs:.3g}, KL {logits.kl_nats:.3g} nats"
            rows.append(
                [name, "logits", certificate.precision, figures, logits.gate,
                 _verdict(logits.passed)]
            )  # fmt: skip
        if backend.greedy is not None:
            greedy = backend.greedy
            figures = f"{greedy.agreed} of {greedy.steps} steps agree"
            rows.append(
                [name, "greedy", certificate.precision, figures, "no decisive miss",
                 _verdict(greedy.passed)]
            )  # fmt: skip
        for picture in backend.pictures:
            rows.append([name, picture.picture, certificate.precision, _worst(picture), "the same",
                         _verdict(not picture.misses)])  # fmt: skip
        if backend.status in ("not compared", "absent", "refused", "compiled, not run"):
            rows.append([backend.backend, "all", "", backend.status, "", ""])
    for graph, note in (repaired or {}).items():
        rows.append(["export", graph, certificate.precision, note, "", "repaired"])
    columns = ("backend", "stage", "precision", "found", "gate", "")
    return table(columns, rows, f"parity against {certificate.reference}")


def _worst(picture: PictureParity) -> str:
    """The worst of a picture's gated stages, and its logits."""
    gated = [stage for stage in picture.stages if stage.gate_cosine is not None]
    parts = []
    if gated:
        worst = min(gated, key=lambda stage: stage.cosine)
        parts.append(f"{worst.stage} cosine {worst.cosine:.7f}")
    if picture.logits is not None:
        parts.append(f"logits max error {picture.logits.max_abs:.3g}")
    return ", ".join(parts)


def _verdict(passed: bool) -> str:
    return "ok" if passed else "MISSED"
