"""Open a bundle and put it on a backend."""

from __future__ import annotations

import os

from edgevlm.bundle import Verify, open_bundle
from edgevlm.registry import BACKENDS
from edgevlm.runtime.backends.base import Backend, EngineOptions
from edgevlm.runtime.model.vlm import Vlm


def open_backend(name: str = "ort-cpu", threads: int = 0, spin: bool = True) -> Backend:
    """The backend called ``name``.

    Raises:
        ConfigError: no such name.
        BackendUnavailable: its engine is not installed.
    """
    backend: Backend = BACKENDS.resolve(name)(EngineOptions(threads=threads, spin=spin))
    return backend


def load(
    bundle: str | os.PathLike[str],
    *,
    backend: str = "ort-cpu",
    threads: int = 0,
    spin: bool = True,
    verify: Verify = "once",
) -> Vlm:
    """Load a bundle folder or ``.evlm`` file.

    Args:
        bundle: its path.
        backend: registry name, see ``edgevlm list backends``.
        threads: intra-op threads; 0 takes the physical cores.
        spin: idle workers spin: faster alone, slower when other work shares the cores.
        verify: ``always`` hashes every file, ``once`` those not hashed before, ``size`` none.

    Raises:
        BundleError: no bundle, an unknown version, or changed files.
        ConfigError: an unknown backend.
        BackendUnavailable: its engine is not installed.
        BackendError: it refuses a graph.
    """
    return Vlm(open_bundle(bundle, verify), open_backend(backend, threads, spin))
