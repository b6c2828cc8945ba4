"""The compile gate: does TensorRT take what a bundle becomes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgevlm.bundle import Bundle, BundleWriter, read_manifest
from edgevlm.bundle.engines import Platform
from edgevlm.export.engines.job import CompileJob, Device
from edgevlm.export.engines.profiles import profiles_of
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import gather
from edgevlm.export.progress import Progress
from edgevlm.export.staging import Staging
from edgevlm.export.targets.operators import check_operators
from edgevlm.export.targets.relower import TargetGraph, relower

RTX = Platform(library="tensorrt-rtx", version="1.7.1", cuda="13", sm="86")
JETPACK_6 = Platform(library="tensorrt", version="10.3.0", cuda="12.6", sm="87")
JETPACK_7 = Platform(library="tensorrt", version="10.16.2", cuda="13.2", sm="87")


def lowered_bundle(source: Path, folder: Path) -> Bundle:
    """The graphs of a checkpoint without its certificate, which other tests look at."""
    options = ExportOptions(calibrate=False)
    writer = BundleWriter(folder / "bundle")
    staging = Staging(writer, gather(str(source), options), options)
    staging.lower(Progress(staging.steps, lambda *_: None))
    writer.write_manifest(staging._manifest(writer.unhashed_files()))
    return Bundle(writer.root, read_manifest(writer.root))


def lower_for(platform: Platform, bundle: Bundle, into: Path) -> dict[str, TargetGraph]:
    """Every graph in the operators of a platform, which its table takes."""
    into.mkdir()
    lowering = "trt10-compat" if platform is JETPACK_6 else "onnx-std"
    graphs = relower(bundle, lowering, None, into)
    assert graphs.keys() == bundle.manifest.graphs.keys()
    for graph in graphs.values():
        check_operators(graph.path, graph.name, platform)
    return graphs


def compile_all(graphs: Mapping[str, TargetGraph], sms: Sequence[str], into: Path) -> list[Any]:
    """Compile every graph for every compute capability, all in one process."""
    jobs = [
        CompileJob(
            library="tensorrt-rtx", module="tensorrt_rtx", device=Device(sm=sm), name=name,
            graph=str(graph.path), engine=str(into / f"{name.replace('/', '-')}-{sm}.engine"),
            profiles=profiles_of(graph.inputs, graph.ranges), aliases=dict(graph.aliases),
            workspace_mib=512, level=0,
        )
        for name, graph in graphs.items()
        for sm in sms
    ]  # fmt: skip
    lines = "\n".join(job.model_dump_json() for job in jobs)
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.engines.gate_child"], input=lines,
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    assert [f["error"] for f in found if "error" in f] == []
    assert len(found) == len(jobs)
    for job, made in zip(jobs, found, strict=True):
        graph = graphs[job.name]
        assert Path(job.engine).stat().st_size > 0
        assert {t["name"]: t["dtype"] for t in made["inputs"]} == {
            t.name: t.dtype for t in graph.inputs
        }
        assert {t["name"]: t["dtype"] for t in made["outputs"]} == {
            t.name: t.dtype for t in graph.outputs
        }
    return found
