"""Bundles with engines of the scripted TensorRT, as ``edgevlm build`` would leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevlm.bundle import Bundle, open_bundle, read_manifest
from edgevlm.bundle.build_record import record_built
from edgevlm.bundle.engines import EngineEntry, EngineKey, Platform, ShapeRange, TargetEngines
from edgevlm.bundle.provenance import FileEntry
from edgevlm.parity import BackendParity
from edgevlm.runtime.backends.scripted_engine import HERE, write_engine


def add_engines(
    root: Path,
    platform: Platform = HERE,
    *,
    target: str = "trt",
    version: str | None = None,
    record: bool = True,
    lowered: Mapping[str, Any] | None = None,
    rows: int = 512,
    cost: BackendParity | None = None,
) -> Bundle:
    """Put an engine of every graph into a bundle folder, and read it again.

    Args:
        root: the folder.
        platform: what the engines are said to be made for.
        target: whose engines.
        version: of the library that made the files; the platform's when None.
        record: note them as made on this device.
        lowered: graphs of ``relower`` by name; the bundle's own ONNX files when None.
        rows: the largest call of the decoder.
        cost: what is known of the graphs that the engines were compiled from.
    """
    manifest = read_manifest(root)
    folder = root / "engines" / target.replace(":", "-")
    folder.mkdir(parents=True, exist_ok=True)
    made, files = {}, dict(manifest.files)
    for name, graph in manifest.graphs.items():
        entry = (lowered or {}).get(name)
        inputs = graph.inputs if entry is None else entry.inputs
        outputs = graph.outputs if entry is None else entry.outputs
        names = {t.name for t in (*inputs, *outputs)}
        aliases = {
            t.name: past
            for t in outputs
            if (past := t.name.replace("present.", "past_key_values.")) in names and past != t.name
        }
        free = {
            t.name: [[d if isinstance(d, int) else n for d in t.shape] for n in (1, 1, rows)]
            for t in inputs
            if any(isinstance(d, str) for d in t.shape)
        }
        path = folder / f"{name.replace('/', '-')}.engine"
        write_engine(
            path,
            (root / graph.file).resolve() if entry is None else entry.path,
            profiles=[free],
            aliases=aliases,
            version=version or platform.version,
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        file = path.relative_to(root).as_posix()
        files[file] = FileEntry(size=path.stat().st_size, sha256=digest)
        ranges = {n: ShapeRange(min=s[0], opt=s[1], max=s[2]) for n, s in free.items()}
        made[name] = EngineEntry(
            file=file,
            key=EngineKey(
                bundle=manifest.bundle_id,
                graph="a" * 64,
                lowering=graph.lowering if entry is None else entry.lowering,
                precision=graph.precision,
                platform=platform,
                profiles=(ranges,) if ranges else (),
            ),
            inputs=inputs,
            outputs=outputs,
            aliases=aliases,
        )
        if record:
            record_built({digest: f"{target} {name}"})
    engines = TargetEngines(
        built="here",
        parity=BackendParity(backend=target.partition(":")[0], status="compiled, not run"),
        lowered=cost,
        graphs=made,
    )
    changed = manifest.model_copy(
        update={"engines": manifest.engines | {target: engines}, "files": files}
    )
    (root / "manifest.json").write_text(changed.model_dump_json())
    return open_bundle(root)
