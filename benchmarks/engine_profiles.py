"""What an optimisation profile costs: ``python -m benchmarks.engine_profiles bundles/nano``.

Compiles a bundle's decoder with TensorRT-RTX ahead of time, without a GPU: once with one profile
whose range holds prefill and decode, once for the decode step alone, once with both profiles.
Prints the size of the engine, the time of the build and the memory of the compiler's process.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edgevlm.bundle import open_bundle
from edgevlm.bundle.engines import Profile
from edgevlm.export.engines.job import CompileJob, Device
from edgevlm.export.engines.process import run_job
from edgevlm.export.engines.profiles import profiles_of
from edgevlm.export.targets.relower import relower

MB = 1e6


def main(root: str) -> None:
    """Lower the decoder once, and compile it three times."""
    with tempfile.TemporaryDirectory() as folder:
        graph = relower(open_bundle(root), "onnx-std", None, Path(folder))["decoder"]
        step = {name: (1, 1, 1) for name in graph.ranges}
        (ranged,), (decode,) = (profiles_of(graph.inputs, r) for r in (graph.ranges, step))
        cases: dict[str, tuple[Profile, ...]] = {
            "one, prefill and decode": (ranged,),
            "one, decode alone": (decode,),
            "two, prefill and decode apart": (ranged, decode),
        }
        sys.stdout.write("| profiles | engine, MB | build, s | peak of its process, MiB |\n")
        sys.stdout.write("|---|---|---|---|\n")
        for name, profiles in cases.items():
            job = CompileJob(
                library="tensorrt-rtx", module="tensorrt_rtx", device=Device(sm="86"),
                name="decoder", graph=str(graph.path), engine=f"{folder}/engine",
                profiles=profiles, aliases=dict(graph.aliases), workspace_mib=1024, level=3,
            )  # fmt: skip
            made = run_job(job, lambda _doing: None)
            size = Path(job.engine).stat().st_size / MB
            sys.stdout.write(f"| {name} | {size:.1f} | {made.seconds} | {made.peak_mib} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
