"""A bundle with re-lowered graphs in place of its own: to run them, and to measure the loss."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from edgevlm.bundle import Bundle, Manifest
from edgevlm.bundle.files import MANIFEST, link_or_copy, sha256_file
from edgevlm.bundle.manifest import GraphEntry, Precision
from edgevlm.bundle.provenance import FileEntry
from edgevlm.errors import ContractError
from edgevlm.export.reference.child import run_module
from edgevlm.export.targets.stored_graph import opset_of
from edgevlm.export.targets.target_graph import TargetGraph
from edgevlm.parity import Certificate


def with_graphs(bundle: Bundle, graphs: Mapping[str, TargetGraph], into: Path) -> Bundle:
    """Write a bundle whose graphs are these, with the same bytes for everything else.

    A graph's precision, by which it is judged, is the coarser one of its stored weights and its
    products: what was rounded to 4 bits stays so in fp16.

    Args:
        bundle: that was lowered again.
        graphs: what came of it, all in the folder that ``relower`` wrote to.
        into: a folder that is not there yet; on the file system of both, nothing is copied.

    Raises:
        ContractError: graphs in bf16, which a bundle's manifest and a CPU have no name for.
    """
    manifest = bundle.manifest
    into.mkdir()
    files = dict(manifest.files)
    for name in files:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(bundle.root / name, into / name)
    entries: dict[str, GraphEntry] = dict(manifest.graphs)
    for key, graph in graphs.items():
        precision = _coarser(entries[key].precision, graph.precision)
        file = str(PurePosixPath(graph.lowering, graph.path.name))
        for name in (file, f"{file}.data"):
            source, target = graph.path.parent / PurePosixPath(name).name, into / name
            target.parent.mkdir(exist_ok=True)
            link_or_copy(source, target)
            files[name] = FileEntry(size=target.stat().st_size, sha256=sha256_file(target))
        entries[key] = GraphEntry(
            file=file,
            lowering=graph.lowering if key == "decoder" else entries[key].lowering,
            opset=opset_of(graph.path),
            precision=precision,
            notes=graph.notes,
            inputs=graph.inputs,
            outputs=graph.outputs,
        )
    changes: dict[str, Any] = {"graphs": entries, "files": files, "parity": None}
    if manifest.kv is not None and "decoder" in graphs:
        past = next(t for t in graphs["decoder"].inputs if t.name.startswith("past_key_values."))
        changes["kv"] = manifest.kv.model_copy(update={"dtype": past.dtype})
    made = Manifest.model_validate(manifest.model_copy(update=changes).model_dump())
    (into / MANIFEST).write_text(made.model_dump_json(indent=1) + "\n", "utf-8")
    return Bundle(into, made)


def _coarser(stored: Precision, given: str) -> Precision:
    order: tuple[Precision, ...] = get_args(Precision)
    for precision in order:
        if precision == given:
            return max(stored, precision, key=order.index)
    raise ContractError(f"graphs in {given} do not run here: a bundle has {', '.join(order)}")


def measure(bundle: Bundle, graphs: Mapping[str, TargetGraph]) -> Certificate:
    """The stored probe through the re-lowered graphs, on the CPU, in a process of its own.

    Args:
        bundle: that was lowered again, with its probe.
        graphs: what came of it.

    Raises:
        ContractError: graphs in bf16.
        ExportError: they do not run.
    """
    with tempfile.TemporaryDirectory(dir=next(iter(graphs.values())).path.parent) as folder:
        made = with_graphs(bundle, graphs, Path(folder) / "bundle")
        printed = run_module(
            "edgevlm.runtime.model.certify", made.root, doing="running the lowered graphs"
        )
    return Certificate.model_validate_json(printed)
