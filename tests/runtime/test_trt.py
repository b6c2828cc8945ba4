"""The TensorRT backends over the scripted library and a device made of host memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.engines import Platform
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import (
    BackendError,
    BackendUnavailable,
    ContractError,
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
from edgevlm.runtime.backends.scripted_engine import HERE, ScriptedTrtBackend, write_engine
from edgevlm.runtime.backends.scripted_trt import ScriptedTrt
from edgevlm.runtime.backends.trt import EngineBackend
from edgevlm.runtime.backends.trt_api import open_engine, profile_for
from edgevlm.runtime.backends.trt_graph import Scratch, TrtGraph
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm
from tests.runtime.engine_bundle import add_engines

ROWS = [[1, 4], [1, 4], [8, 4]]


@pytest.fixture
def api() -> HostApi:
    return HostApi()


@pytest.fixture
def cache_graph(tmp_path: Path) -> Path:
    """A cache of 8 slots in place, a sum that is copied back, a big kept input, and rows out."""
    value, make = helper.make_tensor_value_info, helper.make_node
    wide = [1, 2, 16384]
    graph = helper.make_graph(
        [
            make("TensorScatter", ["past", "rows", "at"], ["present"], axis=-2),
            make("ReduceSum", ["present", "all"], ["seen"], keepdims=0),
            make("ReduceSum", ["x", "first"], ["sum"], keepdims=0),
            make("Add", ["before", "sum"], ["after"]),
            make("ReduceSum", ["big", "all"], ["size"], keepdims=0),
            make("Unsqueeze", ["x", "front"], ["rows"]),
            make("Identity", ["rows"], ["new"]),
            make("Add", ["after", "seen"], ["partial"]),
            make("Add", ["partial", "size"], ["y"]),
        ],
        "cache",
        [
            value("x", TensorProto.FLOAT, ["rows", 4]),
            value("at", TensorProto.INT64, [1]),
            value("past", TensorProto.FLOAT, [1, 8, 4]),
            value("before", TensorProto.FLOAT, [4]),
            value("big", TensorProto.FLOAT, wide),
        ],
        [
            value("present", TensorProto.FLOAT, [1, 8, 4]),
            value("after", TensorProto.FLOAT, [4]),
            value("new", TensorProto.FLOAT, [1, "rows", 4]),
            value("y", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor("first", TensorProto.INT64, [1], [0]),
            helper.make_tensor("front", TensorProto.INT64, [1], [0]),
            helper.make_tensor("all", TensorProto.INT64, [3], [0, 1, 2]),
        ],
    )
    path = tmp_path / "cache.onnx"
    opset = [helper.make_opsetid("", 24)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=11), path)
    return path


def engine_graph(
    api: HostApi,
    graph: Path,
    *,
    aliases: dict[str, str] | None = None,
    profiles: Any = ({"x": ROWS},),
    captures: bool = True,
    capturable: bool = True,
) -> TrtGraph:
    file = graph.with_suffix(".engine")
    write_engine(file, graph, profiles=profiles, aliases=aliases or {})
    trt = ScriptedTrt(api)
    trt.capturable = capturable
    engine, alive = open_engine(trt, file)
    device = Device(api)
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    return TrtGraph(
        trt, engine, alive, device, Scratch(device),
        lambda e: e.create_execution_context(strategy), captures=captures, closing=lambda: None,
    )  # fmt: skip


STATE = {"present": "past", "after": "before"}
IN_PLACE = {"present": "past"}


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("graphs", ["captured", "not captured", "not capturable"])
def test_state_stays_on_the_device_and_steps_become_a_graph(
    cache_graph: Path, integrated: bool, graphs: str
):
    api = HostApi(integrated=integrated)
    graph = engine_graph(
        api, cache_graph, aliases=IN_PLACE,
        captures=graphs != "not captured", capturable=graphs != "not capturable",
    )  # fmt: skip
    state = graph.bind(STATE)
    big = np.full((1, 2, 16384), 1 / 32, np.float32)
    slots, total = np.zeros((1, 8, 4), np.float32), np.zeros(4, np.float32)
    for turn, rows in enumerate((3, 1, 1, 1, 1, 2, 2, 2, 1, 1)):
        x = np.full((rows, 4), turn + 1, np.float32)
        at = turn % 4
        feeds = {"x": x, "at": np.array([at])} | ({} if turn else {"big": big})
        state.run(feeds, {"y": (4,), "new": (1, rows, 4)})
        slots[0, at : at + rows] = turn + 1
        total += x.sum(axis=0)
        np.testing.assert_array_equal(state.output("y"), total + slots.sum() + 1024)
        np.testing.assert_array_equal(state.output("present"), slots)
        np.testing.assert_array_equal(state.output("after"), total)
    captured = graphs == "captured"
    assert api.counts["capture"] == (2 if captured else 1 if graphs == "not capturable" else 0)
    assert api.counts["launch"] == (5 if captured else 0)
    state.close()
    state.close()
    graph.close()
    graph.close()
    free, all_of_it = api.memory_info()
    assert free == all_of_it


def test_a_value_that_is_given_once_is_kept_by_every_later_call(cache_graph: Path, api: HostApi):
    state = engine_graph(api, cache_graph, aliases=IN_PLACE).bind(STATE)
    x, big = np.ones((1, 4), np.float32), np.zeros((1, 2, 16384), np.float32)
    with pytest.raises(ContractError, match=r"inputs \['at', 'big'\] were never given"):
        state.run({"x": x}, {"y": (4,)})
    state.run({"x": x, "at": np.array([2]), "big": big}, {"y": (4,)})
    for _ in range(4):  # ``at`` stays 2, also from the loose buffers to those of the step
        state.run({"x": x}, {"y": (4,)})
    assert state.output("present")[0, 2].tolist() == [1, 1, 1, 1]
    assert state.output("present").sum() == 4
    state.run({"x": x, "before": np.zeros(4, np.float32), "at": np.array([3])}, {"y": (4,)})
    np.testing.assert_array_equal(state.output("after"), np.ones(4))
    state.run({"x": np.ones((2, 4), np.float32)}, {"y": (4,)})
    assert state.output("present")[0, 3:5].sum() == 8


def test_new_rows_are_put_where_they_belong_without_the_host(cache_graph: Path, api: HostApi):
    state = engine_graph(api, cache_graph, aliases=IN_PLACE).bind(STATE)
    big = np.zeros((1, 2, 16384), np.float32)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    state.run({"x": x, "at": np.array([0]), "big": big}, {"y": (4,)})
    before = api.counts.copy()
    state.store({"new": "past"}, at=5)
    assert {k: v - before[k] for k, v in api.counts.items() if v != before[k]} == {"copy 2d": 1}
    np.testing.assert_array_equal(state.output("present")[0, 5:7], x)
    with pytest.raises(ContractError, match="2 rows at 7 of 8"):
        state.store({"new": "past"}, at=7)


def test_a_small_cache_that_is_no_state_is_filled_too(cache_graph: Path, api: HostApi):
    state = engine_graph(api, cache_graph).bind({})
    big, past = np.zeros((1, 2, 16384), np.float32), np.zeros((1, 8, 4), np.float32)
    feeds = {"big": big, "past": past, "before": np.zeros(4, np.float32), "at": np.array([7])}
    for turn in range(6):
        x = np.full((1, 4), turn + 1, np.float32)
        state.run({"x": x, **feeds}, {"y": (4,)})
        feeds = {}
        state.store({"new": "past"}, at=turn)
        seen = sum(range(1, turn + 1)) + turn + 1  # rows before, and this one in slot 7
        np.testing.assert_array_equal(state.output("y"), np.full(4, 4 * seen + turn + 1))
    assert api.counts["launch"] > 2


def test_what_the_engine_does_in_place_must_be_bound_in_place(cache_graph: Path, api: HostApi):
    graph = engine_graph(api, cache_graph, aliases=IN_PLACE)
    with pytest.raises(ContractError, match="'present' is 'past' in place"):
        graph.bind({"after": "before"})
    with pytest.raises(ContractError, match="'x' has free dimensions"):
        graph.bind({"present": "past", "new": "x"})


def test_shapes_outside_of_every_profile_are_refused_by_name(cache_graph: Path, api: HostApi):
    graph = engine_graph(api, cache_graph)
    feeds = {
        "x": np.ones((9, 4), np.float32), "at": np.array([0]),
        "past": np.zeros((1, 8, 4), np.float32), "before": np.zeros(4, np.float32),
        "big": np.zeros((1, 2, 16384), np.float32),
    }  # fmt: skip
    with pytest.raises(ContractError, match=r"no profile of the engine takes \{'x': \(9, 4\)\}"):
        graph.run(feeds)
    feeds["x"] = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(graph.run(feeds)["new"], feeds["x"][None])
    del feeds["at"]
    with pytest.raises(ContractError, match=r"missing or unknown graph inputs: \['at'\]"):
        graph.run(feeds)


def test_the_narrowest_profile_that_fits_is_taken(cache_graph: Path, api: HostApi):
    one = [[1, 4], [1, 4], [1, 4]]
    graph = engine_graph(api, cache_graph, profiles=({"x": ROWS}, {"x": one}))
    assert [graph.profile({"x": (n, 4)}) for n in (1, 2, 8)] == [1, 0, 0]
    assert profile_for(graph._engine, {"x": (9, 4)}) is None


def test_contexts_of_several_engines_work_in_one_piece_of_memory(api: HostApi, tmp_path: Path):
    device = Device(api)
    scratch = Scratch(device)

    class Context:
        def set_device_memory(self, address: int, nbytes: int) -> None:
            self.given = (address, nbytes)

    first, second, third = Context(), Context(), Context()
    scratch.serve(first, 1000)
    scratch.serve(second, 5000)
    scratch.serve(third, 10)
    assert first.given == second.given == third.given
    assert (first.given[1], scratch.moves) == (5000, 2)
    api.require(*first.given)
    for context in (first, second, third):
        scratch.leave(context)
    assert api.memory_info()[0] == api.memory_info()[1]
    del tmp_path


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
