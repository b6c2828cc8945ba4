"""Open a bundle and put it on a backend."""

from __future__ import annotations

import os
from collections.abc import Callable

from edgevlm.bundle import Bundle, Verify, open_bundle
from edgevlm.errors import BackendError
from edgevlm.registry import BACKENDS
from edgevlm.runtime.backends.base import Backend, EngineOptions
from edgevlm.runtime.model.budget import check_memory
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.vision import shown_rows
from edgevlm.runtime.model.vlm import Vlm

ON_HOST = "ort-cpu"  # the backend whose memory is that of the machine


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
    fallback: str | None = None,
    visual_tokens: int | None = None,
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
        fallback: another backend, where this one cannot be used here; the model's ``missed`` then
            says why.
        visual_tokens: that a picture becomes in the prompt, one of the budgets that the manifest
            names; None is its default.

    Raises:
        BundleError: no bundle, an unknown version, or changed files.
        ConfigError: an unknown backend, or a budget of visual tokens that the bundle lacks.
        BackendUnavailable: its engine is not installed.
        BackendError: it refuses a graph, or there is not enough memory for the weights.
        EngineMismatch: the bundle's engine is of another device, version or bundle.
        EngineUntrusted: this device did not make it.
    """
    opened = open_bundle(bundle, verify)
    shown_rows(opened.manifest, visual_tokens)  # refused before an engine is looked for

    def on(name: str) -> Backend:
        if name == ON_HOST:
            check_memory(opened.manifest)
        return open_backend(
            name, threads, spin, cpu_fallback=cpu_fallback, trust_engines=trust_engines
        )

    if fallback is None:
        return Vlm(opened, on(backend), visual_tokens=visual_tokens)
    return _with_fallback(opened, on, backend, fallback, visual_tokens)


def _with_fallback(
    bundle: Bundle,
    on: Callable[[str], Backend],
    backend: str,
    fallback: str,
    visual_tokens: int | None,
) -> Vlm:
    target = None
    try:
        engine = on(backend)
        target = engine.target
        return Vlm(bundle, engine, visual_tokens=visual_tokens)
    except BackendError as exc:
        missed = Missed(backend, target, str(exc))
    return Vlm(bundle, on(fallback), missed, visual_tokens)
