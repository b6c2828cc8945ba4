"""A target's engines as a table."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from edgevlm.bundle.build_record import built_here
from edgevlm.bundle.engines import EngineEntry, TargetEngines
from edgevlm.bundle.provenance import FileEntry
from edgevlm.cli.console import table
from edgevlm.cli.parity_table import parity_table
from edgevlm.parity import Certificate

REFERENCE = "the source model, before anything is compiled"
COLUMNS = ("graph", "engine", "MB", "precision", "lowering", "shapes", "trusted here")


def engine_table(target: str, made: TargetEngines, files: Mapping[str, FileEntry]) -> Table:
    """One row an engine; the title says what they were built for, and what is known of them.

    Args:
        target: as given to ``edgevlm build --target``.
        made: its engines.
        files: of the manifest.
    """
    known = built_here()
    rows = [
        [graph, entry.file.rpartition("/")[2], f"{files[entry.file].size / 1e6:.1f}",
         entry.key.precision, entry.key.lowering, _shapes(entry),
         "yes" if files[entry.file].sha256 in known else "with --trust-engines"]
        for graph, entry in made.graphs.items()
    ]  # fmt: skip
    platform = next(iter(made.graphs.values())).key.platform
    device = f"sm{platform.sm}" + (f" ({platform.device})" if platform.device else "")
    title = (
        f"engines for {target}: {platform.library} {platform.version}, CUDA {platform.cuda}, "
        f"{device}, built {made.built}, {made.parity.status}"
    )
    return table(COLUMNS, rows, title)


def lowered_table(target: str, made: TargetEngines, stored: str) -> Table | None:
    """The graphs that a target's engines were compiled from, against the source model.

    Args:
        target: as given to ``edgevlm build --target``.
        made: its engines.
        stored: precision of the bundle.
    """
    if made.lowered is None:
        return None
    named = made.lowered.model_copy(update={"backend": f"{target} graphs, {made.lowered.backend}"})
    decoder = made.graphs.get("decoder")
    given = decoder.key.precision if decoder is not None else stored
    precision = stored if given == stored else f"{stored} as {given}"
    return parity_table(Certificate(reference=REFERENCE, precision=precision, backends=(named,)))


def _shapes(entry: EngineEntry) -> str:
    """The ranges of the free inputs: ``inputs_embeds 1x1x576..1x512x576``."""
    return ", ".join(
        f"{name} {'x'.join(map(str, r.min))}..{'x'.join(map(str, r.max))}"
        for profile in entry.key.profiles
        for name, r in profile.items()
    )
