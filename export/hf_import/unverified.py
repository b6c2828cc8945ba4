"""Imported graphs that nobody gave the source model of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.probe_case import cases
from edgevlm.export.progress import Progress
from edgevlm.export.reference.child import run_module

NOTHING = "nothing: the graphs were imported, and their source model was not given (--reference)"


@dataclass(frozen=True, slots=True)
class NoReference:
    """Writes a probe without answers: the certificate then says that nothing was compared."""

    def write(self, root: Path, progress: Progress) -> None:
        """Write ``probe/`` with a question that the graphs must at least be able to take."""
        run_module("edgevlm.runtime.model.probe_inputs", root, doing="preparing the parity probe")
        for case in cases(root / "probe"):
            case.forget_pixels()
        (root / "probe" / "reference.txt").write_text(NOTHING + "\n", "utf-8")
        progress.step("probe inputs")
        progress.step("no source model")
