"""A bundle in, engines in the bundle: ``edgevlm build``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle import Bundle, Manifest
from edgevlm.bundle.cache import cache_folder
from edgevlm.bundle.engine_writer import EngineWriter, NewEngine
from edgevlm.bundle.engines import EngineEntry, EngineKey, Platform
from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.static_cache import StaticLowering
from edgevlm.errors import BuildError, BundleError, ContractError, ExportError
from edgevlm.export.engines.graph_files import graph_files, graph_hash
from edgevlm.export.engines.job import Compiled, CompileJob, Device, Survey
from edgevlm.export.engines.library import check_installed, numbers
from edgevlm.export.engines.process import run_job, survey
from edgevlm.export.engines.profiles import profiles_of
from edgevlm.export.engines.target import BuildTarget
from edgevlm.export.judgement import judge
from edgevlm.export.progress import Report
from edgevlm.export.targets.as_bundle import measure
from edgevlm.export.targets.operators import check_operators
from edgevlm.export.targets.relower import TargetGraph, TargetPrecision, relower
from edgevlm.parity import BackendParity

WORKSPACE_MIB = 1024  # what a board of 8 GB can spare; large matrices need no more
LEVEL = 3
IN_PLACE_SINCE = (10, 15)  # TensorRT's KV cache update; before it, rows go out and are copied
Lower = Callable[
    [Bundle, StaticLowering, TargetPrecision | None, Path, Report], dict[str, TargetGraph]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What differs from the defaults.

    Args:
        precision: of the engines' products; None keeps what the target can keep.
        workspace_mib: scratch memory that one kernel may ask for.
        level: optimisation level of the compiler, 0 (fast to build) to 5.
        force: replace the target's engines.
        measure: run the lowered graphs on the CPU over the stored probe, where ONNX Runtime is
            here: what the lowering and its precision cost.
        allow_drift: keep engines of graphs that miss a parity gate.
        device: what to compile for, where it is not this machine's.
    """

    precision: TargetPrecision | None = None
    workspace_mib: int = WORKSPACE_MIB
    level: int = LEVEL
    force: bool = False
    measure: bool = True
    allow_drift: bool = False
    device: Device | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build left in the bundle."""

    manifest: Manifest
    platform: Platform
    compiled: Mapping[str, Compiled]


def build(
    root: Path,
    target: BuildTarget,
    options: BuildOptions | None = None,
    report: Report = lambda _done, _total, _what: None,
    lower: Lower = relower,
) -> Built:
    """Compile every graph of a bundle, and put the engines into it; or change nothing.

    Args:
        root: a bundle folder.
        target: what to compile for.
        options: what differs from the defaults.
        report: called with ``(done, total, what)``; ``done`` counts graphs.
        lower: writes the graphs in the target's operators.

    Raises:
        BundleExists: the target has engines and ``force`` is not set.
        BundleError: no bundle folder, or one that cannot be written.
        BackendUnavailable: the compiler or its device is not here.
        ParityError: the lowered graphs miss a gate, and ``allow_drift`` is not set.
        UnsupportedOperator: a graph has what the target does not take; the node is named.
        BuildMemoryError: the compiler ran out of memory.
        ExportError: a graph cannot be lowered or compiled.
    """
    options = options or BuildOptions()
    if root.is_file():
        raise BundleError(
            f"{root} is packed, and engines go into a folder: unzip -q {root} -d "
            f"{root.with_suffix('')}, and build that"
        )
    check_installed(target.library, target.module)
    if not root.is_dir():
        raise BundleError(
            f"{root} is no bundle folder; make one with: edgevlm export nano -o {root}"
        )
    with EngineWriter(root, target.name, options.force) as writer:
        device = options.device or (Device(sm=target.sm) if target.sm else None)
        here = survey(Survey(library=target.library, module=target.module, device=device))
        try:
            graphs = _lowered(writer, here, options, report, lower)
            lowered = _measured(writer.bundle, graphs, target, options, report)
            made, compiled = _compile(writer, target, here, graphs, options, report)
            report(len(graphs), len(graphs), "writing the manifest")
            parity = BackendParity(backend=target.backend, status="compiled, not run")
            manifest = writer.commit(made, parity, here=target.sm is None, lowered=lowered)
        except OSError as exc:
            raise ExportError(f"{root} cannot take engines: {exc}") from exc
    return Built(manifest=manifest, platform=here, compiled=compiled)


def lowering_for(platform: Platform) -> StaticLowering:
    """The operators that a library understands best."""
    old = platform.library != "tensorrt-rtx" and numbers(platform.version) < IN_PLACE_SINCE
    return "trt10-compat" if old else "onnx-std"


def _lowered(
    writer: EngineWriter, here: Platform, options: BuildOptions, report: Report, lower: Lower
) -> dict[str, TargetGraph]:
    folder = writer.root / "graphs"
    folder.mkdir()

    def lowering(_done: int, _total: int, what: str) -> None:
        report(0, 1, f"lowering {what}")

    graphs = lower(writer.bundle, lowering_for(here), options.precision, folder, lowering)
    if lost := sorted(writer.bundle.manifest.graphs.keys() - graphs.keys()):
        raise ExportError(f"{writer.bundle.root}: no lowering for the graphs {', '.join(lost)}")
    for graph in graphs.values():
        check_operators(graph.path, graph.name, here)
    return graphs


def _compile(
    writer: EngineWriter,
    target: BuildTarget,
    here: Platform,
    graphs: Mapping[str, TargetGraph],
    options: BuildOptions,
    report: Report,
) -> tuple[dict[str, NewEngine], dict[str, Compiled]]:
    suffix = ".onnx" if target.library == "onnxruntime" else ".engine"
    made: dict[str, NewEngine] = {}
    compiled: dict[str, Compiled] = {}
    for done, (name, graph) in enumerate(graphs.items()):
        job = CompileJob(
            library=target.library,
            module=target.module,
            device=options.device or (Device(sm=target.sm) if target.sm else None),
            name=name,
            graph=str(graph.path),
            engine=str(writer.root / f"{name.replace('/', '-')}{suffix}"),
            profiles=profiles_of(graph.inputs, graph.ranges),
            aliases=dict(graph.aliases),
            workspace_mib=options.workspace_mib,
            level=options.level,
            timing_cache=str(cache_folder() / "timing") if target.sm is None else None,
        )

        def saying(what: str, done: int = done, name: str = name) -> None:
            report(done, len(graphs), f"{name}: {what}")

        compiled[name] = run_job(job, saying)
        _check_tensors(name, graph.inputs, compiled[name].inputs)
        _check_tensors(name, graph.outputs, compiled[name].outputs)
        key = EngineKey(
            bundle=writer.bundle.id,
            graph=graph_hash(graph.path),
            lowering=graph.lowering,
            precision=graph.precision,
            platform=here,
            profiles=job.profiles,
            flags={"level": str(job.level), "workspace_mib": str(job.workspace_mib)},
        )
        entry = EngineEntry(
            file=job.engine, key=key, inputs=graph.inputs, outputs=graph.outputs,
            aliases=job.aliases, notes=graph.notes,
        )  # fmt: skip
        made[name] = NewEngine(Path(job.engine), entry)
        for path in graph_files(graph.path):  # nothing else needs them: the disk may be small
            if not any(path in graph_files(g.path) for g in list(graphs.values())[done + 1 :]):
                path.unlink()
    return made, compiled


def _measured(
    bundle: Bundle,
    graphs: Mapping[str, TargetGraph],
    target: BuildTarget,
    options: BuildOptions,
    report: Report,
) -> BackendParity | None:
    """The lowered graphs against the source model; None where that is not wanted or not possible.

    Raises:
        ParityError: they miss a gate that the options hold them to.
    """
    if not options.measure or importlib.util.find_spec("onnxruntime") is None:
        return None
    report(0, len(graphs), "running the lowered graphs on the CPU")
    try:
        found = measure(bundle, graphs)
    except ContractError:  # bf16, for which no CPU kernel exists
        return None
    judge(
        found,
        f"{bundle.root}: engines for {target.name} are",
        allow_drift=options.allow_drift,
        advice="try another --precision",
    )
    return next((b for b in found.backends if b.backend == "ort-cpu"), None)


def _check_tensors(
    name: str, wanted: tuple[TensorEntry, ...], found: tuple[TensorEntry, ...]
) -> None:
    """Refuse an engine whose tensors are not the graph's, which a runtime would misread."""
    want, have = ({t.name: t.dtype for t in side} for side in (wanted, found))
    if want != have:
        odd = sorted(n for n in want.keys() | have.keys() if want.get(n) != have.get(n))
        raise BuildError(
            f"{name}: the engine's tensors are not the graph's: "
            + ", ".join(f"{n} is {have.get(n)}, wanted {want.get(n)}" for n in odd)
        )
