"""Bundles on the TensorRT backends: engines that are found, refused, and answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.engines import Platform
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import (
    BackendError,
    BackendUnavailable,
    EngineMismatch,
    EngineUntrusted,
    GraphRefused,
)
from edgevlm.export.engines.build import BuildOptions, build
from edgevlm.export.engines.target import parse_target
from edgevlm.export.targets.relower import relower
from edgevlm.parity import BackendParity, LogitParity
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.scripted_engine import HERE, ScriptedTrtBackend
from edgevlm.runtime.backends.scripted_trt import ScriptedTrt
from edgevlm.runtime.backends.trt import EngineBackend
from edgevlm.runtime.backends.trt_api import open_engine
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm
from tests.runtime.engine_bundle import add_engines


@pytest.fixture
def api() -> HostApi:
    return HostApi()


# --- engines of a bundle ---------------------------------------------------------------------


@pytest.fixture
def folder(tiny: Bundle, tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    shutil.copytree(tiny.root, root)
    return root


def scripted(**options: Any) -> ScriptedTrtBackend:
    return ScriptedTrtBackend(EngineOptions(**options))


def test_a_bundle_without_engines_says_how_to_build_them(tiny: Bundle):
    with pytest.raises(BackendUnavailable, match=r"no engine of decoder for trt.*edgevlm build"):
        scripted().select(tiny)


def test_an_engine_of_another_machine_names_the_fields(folder: Path):
    other = Platform(library="tensorrt", version="10.16.2", cuda="13.2", sm="110", device="Thor")
    with pytest.raises(EngineMismatch, match=r"version is 10\.16\.2, here 10\.3\.0.*sm is 110"):
        scripted().select(add_engines(folder, other))


def test_an_engine_that_nobody_vouches_for_is_refused(folder: Path):
    bundle = add_engines(folder, record=False)
    with pytest.raises(EngineUntrusted, match="--trust-engines"):
        scripted().select(bundle)
    view = scripted(trust_engines=True).select(bundle)
    assert view.manifest.graphs["decoder"].file == "engines/trt/decoder.engine"


def test_a_truncated_engine_is_found_by_its_hash(folder: Path):
    bundle = add_engines(folder)
    path = bundle.path("engines/trt/decoder.engine")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(EngineMismatch, match=r"decoder\.engine has \d+ bytes, the manifest says"):
        scripted().select(bundle)


def test_a_file_that_was_not_checked_does_not_load(folder: Path):
    bundle = add_engines(folder)
    with pytest.raises(GraphRefused, match="was not checked"):
        scripted().load(bundle.path("engines/trt/decoder.engine"))


def test_what_the_library_says_becomes_the_kind_of_error_it_is(folder: Path, tmp_path: Path):
    # The manifest promises this version, and the library knows better.
    bundle = add_engines(folder, version="10.2.0")
    backend = scripted()
    view = backend.select(bundle)
    with pytest.raises(EngineMismatch, match=r"another TensorRT.*Version tag does not match"):
        backend.load(view.path(view.manifest.graphs["decoder"].file))
    for content, reason in ((b"", "magicTag"), (b"garbage", "magicTag"),
                            (b"scripted engine\n{", "unexpected end")):  # fmt: skip
        broken = tmp_path / "broken.engine"
        broken.write_bytes(content)
        with pytest.raises(BackendError, match=rf"no engine that this TensorRT can load.*{reason}"):
            open_engine(ScriptedTrt(HostApi()), broken)


def test_the_view_says_what_the_engines_take(folder: Path):
    view = scripted().select(add_engines(folder))
    entry = view.manifest.graphs["decoder"]
    assert entry.file.endswith(".engine")
    assert view.manifest.kv.dtype == "float32"
    backend = scripted()
    assert backend.versions() == {"tensorrt": "10.3.0", "cuda": "12.6 by host memory"}
    assert (backend.name, backend.target) == ("trt", "trt")


@pytest.mark.parametrize("lowering", ["onnx-std", "trt10-compat"])
def test_a_decoder_in_tensorrts_operators_says_what_the_cpu_says(
    tiny: Bundle, folder: Path, tmp_path: Path, lowering: str
):
    into = tmp_path / "lowered"
    into.mkdir()
    bundle = add_engines(folder, lowered=relower(tiny, lowering, "fp32", into))
    api = HostApi()
    questions = ("hello", "a longer question than that one", "x" * 600)
    with Vlm(tiny, open_backend("ort-cpu", threads=1, spin=False)) as plain:
        wanted = [plain.ask(None, q, max_tokens=12) for q in questions]
    with Vlm(bundle, ScriptedTrtBackend(EngineOptions(), HERE, api)) as model:
        found = [model.ask(None, q, max_tokens=12) for q in questions]
    assert [a.token_ids for a in found] == [a.token_ids for a in wanted]
    # Either the engine writes into its cache, or rows are copied there: never by the host.
    assert (api.counts["copy 2d"] > 0) == (lowering == "trt10-compat")
    assert api.counts["launch"] > 20


@pytest.mark.parametrize("integrated", [False, True])
def test_a_bundle_on_engines_answers_as_on_the_cpu(nano: Bundle, tmp_path: Path, integrated: bool):
    root = tmp_path / "nano"
    shutil.copytree(nano.root, root)
    bundle = add_engines(root)
    api = HostApi(integrated=integrated)
    picture = np.random.default_rng(3).integers(0, 255, (60, 80, 3), np.uint8)
    with Vlm(nano, open_backend("ort-cpu", threads=2, spin=False)) as plain:
        wanted = [plain.ask(picture, q, max_tokens=6) for q in ("What is it?", "Where?")]
    with Vlm(bundle, ScriptedTrtBackend(EngineOptions(), HERE, api)) as model:
        found = [model.ask(picture, q, max_tokens=6) for q in ("What is it?", "Where?")]
    assert [a.token_ids for a in found] == [a.token_ids for a in wanted]
    assert {a.backend for a in found} == {"trt"}
    assert api.counts["launch"] > 4  # the decode steps
    assert api.memory_info()[0] == api.memory_info()[1]  # nothing is left


def test_no_tensorrt_and_no_driver_are_told_with_the_remedy():
    with pytest.raises(BackendUnavailable, match=r"tensorrt is not on|no NVIDIA driver|no usable"):
        open_backend("trt")
    with pytest.raises(BackendUnavailable, match=r"tensorrt_rtx is not|no NVIDIA driver|no usable"):
        open_backend("trt-rtx")


def test_the_real_tensorrt_rtx_has_everything_that_is_asked_of_it(tmp_path: Path):
    trt = pytest.importorskip("tensorrt_rtx")
    for owner, names in {
        trt: ("ILogger", "Runtime", "TensorIOMode", "TensorLocation", "CudaGraphStrategy"),
        trt.ExecutionContextAllocationStrategy: ("USER_MANAGED",),
        trt.CudaGraphStrategy: ("WHOLE_GRAPH_CAPTURE",),
        trt.ICudaEngine: (
            "num_io_tensors", "get_tensor_name", "get_tensor_dtype", "get_tensor_shape",
            "get_tensor_mode", "get_tensor_location", "get_tensor_profile_shape",
            "num_optimization_profiles", "get_aliased_input_tensor", "device_memory_size_v2",
            "create_execution_context", "create_runtime_config",
        ),
        trt.IExecutionContext: (
            "set_optimization_profile_async", "set_device_memory", "set_input_shape",
            "set_tensor_address", "get_tensor_shape", "execute_async_v3",
        ),
        trt.IRuntimeConfig: (
            "set_execution_context_allocation_strategy", "cuda_graph_strategy",
            "create_runtime_cache", "set_runtime_cache",
        ),
        trt.IRuntimeCache: ("serialize", "deserialize"),
    }.items():  # fmt: skip
        assert [n for n in names if not hasattr(owner, n)] == []
    broken = tmp_path / "broken.engine"
    broken.write_bytes(b"no engine at all" * 40)
    with pytest.raises(BackendError, match=r"broken\.engine"):  # what it says, if not who reads it
        open_engine(trt, broken)


def test_a_real_engine_is_asked_for_its_driver_and_a_truncated_one_is_recognised(
    folder: Path, tmp_path: Path
):
    trt = pytest.importorskip("tensorrt_rtx")
    build(folder, parse_target("trt-rtx:sm86"), BuildOptions(measure=False))
    bundle = open_bundle(folder)
    entry = bundle.manifest.engines["trt-rtx:sm86"].graphs["decoder"]
    if _has_driver():
        pytest.skip("this machine has a driver: tests/gpu runs engines")
    with pytest.raises(BackendUnavailable, match=r"needs an NVIDIA driver.*cudaError 35"):
        open_engine(trt, bundle.path(entry.file))
    cut = tmp_path / "cut.engine"
    cut.write_bytes(bundle.path(entry.file).read_bytes()[:-1000])
    with pytest.raises(BackendError, match=r"cut\.engine.*Serialization.*blobSize"):
        open_engine(trt, cut)


def _has_driver() -> bool:
    try:
        cuda_device()
    except BackendUnavailable:
        return False
    return True


def test_a_backend_names_its_target():
    rtx = Platform(library="tensorrt-rtx", version="1.7", cuda="13", sm="89", device="card")
    from edgevlm.runtime.backends.trt_rtx import TrtRtxBackend

    made = TrtRtxBackend.__new__(TrtRtxBackend)
    EngineBackend.__init__(made, "trt-rtx", None, Device(HostApi()), rtx, EngineOptions())
    assert made.target == "trt-rtx:sm89"


def test_a_gate_that_the_lowering_missed_degrades_every_answer_of_the_engines(
    folder: Path, tiny: Bundle
):
    logits = LogitParity(positions=9, max_abs=1.0, kl_nats=0.3, gate="KL <= 0.15", passed=False)
    cost = BackendParity(backend="ort-cpu", status="measured", logits=logits)
    own = tiny.manifest.parity
    assert own is not None
    seen = scripted().select(add_engines(folder, cost=cost)).manifest.parity
    assert seen is not None
    assert seen.degraded == (*own.degraded, "engines for trt: logits")
    assert not seen.passed
    plain = scripted().select(add_engines(folder)).manifest.parity
    assert plain is not None
    assert plain.degraded == own.degraded
