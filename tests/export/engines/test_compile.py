"""One graph and its compiler: what TensorRT says, and what that is taken to mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import BuildError, BuildMemoryError, UnsupportedOperator
from edgevlm.export.engines.child import compile_graph
from edgevlm.export.engines.job import Compiled, CompileJob, Device
from edgevlm.export.engines.profiles import profiles_of
from edgevlm.export.engines.symptoms import build_failure
from edgevlm.export.targets.relower import TargetGraph
from tests.export.engines.graphs import lower

ORIN = Device(sm="87", name="Orin", cuda="13.2")


@pytest.fixture(scope="module")
def graphs(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TargetGraph]:
    return lower(tiny, "onnx-std", None, tmp_path_factory.mktemp("graphs"))


def compile_with(double: str, graph: TargetGraph, engine: Path, **changes: object) -> Compiled:
    """In this process, with a library that is scripted."""
    job = CompileJob(
        library="tensorrt", module=f"tests.export.engines.doubles:{double}", device=ORIN,
        name=graph.name, graph=str(graph.path), engine=str(engine), workspace_mib=512, level=3,
        profiles=profiles_of(graph.inputs, graph.ranges), aliases=dict(graph.aliases),
    )  # fmt: skip
    return compile_graph(job.model_copy(update=changes))


@pytest.mark.parametrize("double", ["JETPACK_6", "JETPACK_7", "DESKTOP_11"])
def test_every_version_compiles(graphs: dict[str, TargetGraph], tmp_path: Path, double: str):
    found = compile_with(double, graphs["decoder"], tmp_path / "engine")
    assert (tmp_path / "engine").is_file()
    assert [t.name for t in found.inputs] == ["past", "new", "at", "query", "mask"]
    assert found.inputs[1].shape == (1, 2, "axis_2", 16)
    assert {t.name: t.dtype for t in found.outputs} == {"y": "float16", "present": "float16"}
    assert found.platform.sm == "87"


@pytest.mark.parametrize(
    ("double", "kind", "said"),
    [
        ("NO_KERNEL", BuildMemoryError, r"no kernel for \{ForeignNode\[/layers.*512 MB.*--works"),
        ("BAD_ALLOC", BuildMemoryError, r"out of memory during the build \(std::bad_alloc\); clo"),
        ("TACTICS_SKIPPED", BuildMemoryError, r"out of memory .*4229MB.*lower --workspace-mb"),
        ("REFUSED", BuildError, r"the compiler gives no engine: .*odd profile"),
        ("NO_IMPORTER", UnsupportedOperator, r"node 0 \(its operator\) is refused: no importer f"),
        ("DROPS_MASK", BuildError, "the parser dropped mask: nothing reads it any more"),
        ("PLUGIN", UnsupportedOperator, "/attention/Attention became a plugin"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_named(
    graphs: dict[str, TargetGraph], tmp_path: Path, double: str, kind: type[Exception], said: str
):
    with pytest.raises(kind, match=f"decoder: {said}") as caught:
        compile_with(double, graphs["decoder"], tmp_path / "engine")
    assert type(caught.value) is kind
    assert not (tmp_path / "engine").exists()


def test_a_cache_that_would_be_copied_is_refused(graphs: dict[str, TargetGraph], tmp_path: Path):
    with pytest.raises(BuildError, match="y would not be updated in place, but copied every step"):
        compile_with("JETPACK_7", graphs["decoder"], tmp_path / "e", aliases={"y": "past"})


def test_an_engine_without_a_profile_is_refused(graphs: dict[str, TargetGraph], tmp_path: Path):
    with pytest.raises(BuildError, match="the compiler gives no engine: no reason given"):
        compile_with("JETPACK_7", graphs["decoder"], tmp_path / "e", profiles=())


def test_an_engine_that_cannot_be_written_is_an_error(
    graphs: dict[str, TargetGraph], tmp_path: Path
):
    with pytest.raises(BuildError, match=r"rows: the engine cannot be written: .*No such file"):
        compile_with("JETPACK_7", graphs["rows"], tmp_path / "none" / "engine")


def test_a_free_dimension_without_a_range_is_refused(graphs: dict[str, TargetGraph]):
    bare = dataclasses.replace(graphs["rows"], ranges={})
    with pytest.raises(Exception, match="x: no range for tokens"):
        profiles_of(bare.inputs, bare.ranges)


@pytest.mark.parametrize(
    "said",
    [
        "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
        "Requested amount of GPU memory (1073741824 bytes) could not be allocated.",
        "Skipping tactic 3 due to insufficient memory on requested size of 4195354624",
        "OutOfMemory (no further information)",
        "cudaErrorMemoryAllocation",
    ],
)
def test_memory_is_recognised_however_it_is_said(said: str):
    found = build_failure("decoder", [said, "Could not find any implementation for node x."], 1024)
    assert type(found) is BuildMemoryError
    assert "decoder: out of memory during the build" in str(found)
