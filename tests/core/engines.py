"""A bundle with an engine in it, as ``edgevlm build`` would leave it: bytes stand for the code."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgevlm.bundle import Bundle, open_bundle, read_manifest
from edgevlm.bundle.engines import EngineEntry, EngineKey, Platform, ShapeRange, TargetEngines
from edgevlm.bundle.provenance import FileEntry
from edgevlm.parity import BackendParity

TARGET, FILE, CODE = "trt", "engines/trt/decoder-0.engine", b"machine code"
ORIN = Platform(library="tensorrt", version="10.3.0", cuda="12.6", sm="87", device="Orin")


def key(bundle: str, platform: Platform = ORIN) -> EngineKey:
    """Of an engine for the given bundle."""
    lengths = ShapeRange(min=(1, 1, 64), opt=(1, 8, 64), max=(1, 32, 64))
    return EngineKey(
        bundle=bundle, graph="a" * 64, lowering="trt10-compat", precision="fp16",
        platform=platform, profiles=({"inputs_embeds": lengths},), flags={"level": "3"},
    )  # fmt: skip


def add_engine(root: Path, platform: Platform = ORIN) -> Bundle:
    """Put one engine of the decoder into a bundle folder."""
    manifest = read_manifest(root)
    graph = manifest.graphs["decoder"]
    made = TargetEngines(
        built="here",
        parity=BackendParity(backend="trt", status="compiled, not run"),
        graphs={
            "decoder": EngineEntry(
                file=FILE, key=key(manifest.bundle_id, platform),
                inputs=graph.inputs, outputs=graph.outputs,
                aliases={"present.0.key": "past_key_values.0.key"},
            )
        },
    )  # fmt: skip
    (root / FILE).parent.mkdir(parents=True)
    (root / FILE).write_bytes(CODE)
    listed = FileEntry(size=len(CODE), sha256=hashlib.sha256(CODE).hexdigest())
    changed = manifest.model_copy(
        update={"engines": {TARGET: made}, "files": manifest.files | {FILE: listed}}
    )
    (root / "manifest.json").write_text(changed.model_dump_json())
    return open_bundle(root)
