"""Open a bundle and put it on a backend."""

from __future__ import annotations

import os

from edgevlm.bundle import Verify, open_bundle
from edgevlm.registry import BACKENDS
from edgevlm.runtime.backends.base import Backend, EngineOptions
from edgevlm.runtime.model.vlm import Vlm


def open_backend(
    name: str = "ort-cpu",
    threads: int = 0,
    spin: bool = True,
    *,
    cpu_fallback: bool = False,
    trust_engines: bool = False,
) -> Backend:
    """The backend called ``name``; see ``load`` for the arguments.

    Raises:
        ConfigError: no such name.
        BackendUnavailable: its engine is not installed.
    """
    options = EngineOptions(
        threads=threads, spin=spin, cpu_fallback=cpu_fallback, trust_engines=trust_engines
    )
    backend: Backend = BACKENDS.resolve(name)(options)
    return backend


def load(
    bundle: str | os.PathLike[str],
    *,
    backend: str = "ort-cpu",
    threads: int = 0,
    spin: bool = True,
    verify: Verify = "once",
    cpu_fallback: bool = False,
    trust_engines: bool = False,
) -> Vlm:
    """Load a bundle folder or ``.evlm`` file.

    Args:
        bundle: its path.
        backend: registry name, see ``edgevlm list backends``.
        threads: intra-op threads; 0 takes the physical cores.
        spin: idle workers spin: faster alone, slower when other work shares the cores.
        verify: ``always`` hashes every file, ``once`` those not hashed before, ``size`` none.
        cpu_fallback: let the CPU compute what a GPU provider of ONNX Runtime has no kernels for.
        trust_engines: load compiled engines that this device did not make: an engine is code.

    Raises:
        BundleError: no bundle, an unknown version, or changed files.
        ConfigError: an unknown backend.
        BackendUnavailable: its engine is not installed.
        BackendError: it refuses a graph.
        EngineMismatch: the bundle's engine is of another device, version or bundle.
        EngineUntrusted: this device did not make it.
    """
    engine = open_backend(
        backend, threads, spin, cpu_fallback=cpu_fallback, trust_engines=trust_engines
    )
    return Vlm(open_bundle(bundle, verify), engine)
