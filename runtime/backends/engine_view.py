"""A bundle as an engine backend sees it: its graphs are the engines that were built of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgevlm.bundle import Bundle
from edgevlm.bundle.build_record import find_engine
from edgevlm.bundle.cache import cache_folder
from edgevlm.bundle.engines import Platform
from edgevlm.bundle.provenance import ParitySummary

_CACHE = "past_key_values."
_GATED_AS = {"bf16": "int8"}  # eight bits of mantissa either way


def engine_view(bundle: Bundle, target: str, here: Platform, *, trust: bool) -> Bundle:
    """The bundle with every graph replaced by its engine, each one checked.

    Args:
        bundle: an opened one.
        target: as given to ``edgevlm build --target``.
        here: this machine.
        trust: the user vouches for engines that this device did not make.

    Raises:
        BackendUnavailable: a graph has no engine.
        EngineMismatch: one was compiled for another device, version or bundle, or is damaged.
        EngineUntrusted: this device did not make it, and ``trust`` is not set.
    """
    manifest, graphs, kv = bundle.manifest, {}, bundle.manifest.kv
    for name, graph in manifest.graphs.items():
        _, engine = find_engine(bundle, target, name, here, trust=trust)
        precision = _GATED_AS.get(engine.key.precision, engine.key.precision)
        graphs[name] = graph.model_copy(
            update={
                "file": engine.file,
                "lowering": engine.key.lowering,
                "precision": precision,
                "inputs": engine.inputs,
                "outputs": engine.outputs,
                "notes": engine.notes,
                "branches": None,
            }
        )
        for tensor in engine.inputs:
            if kv is not None and tensor.name.startswith(_CACHE):
                kv = kv.model_copy(update={"dtype": tensor.dtype})
    degraded = manifest.parity.degraded if manifest.parity else ("not compared",)
    degraded += tuple(f"engines for {target}: {name}" for name in manifest.engines[target].misses)
    parity = ParitySummary(passed=not degraded, degraded=degraded)
    seen = manifest.model_copy(update={"graphs": graphs, "kv": kv, "parity": parity})
    return Bundle(bundle.root, seen)


def local_cache(backend: str, bundle: Bundle, *facts: str) -> Path:
    """A folder for what a library makes of a bundle on this machine, under a key of our own.

    The libraries' own keys miss changed weights under unchanged names (the bundle's id does not),
    another device, another driver and another version: they are ``facts``.
    """
    key = hashlib.sha256("\n".join((bundle.id, *facts)).encode()).hexdigest()[:32]
    folder = cache_folder() / backend / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder
