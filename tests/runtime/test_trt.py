"""The TensorRT backends over the scripted library and a device made of host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgevlm.errors import (
    ContractError,
)
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.scripted_engine import write_engine
from edgevlm.runtime.backends.scripted_trt import ScriptedTrt
from edgevlm.runtime.backends.trt_api import open_engine, profile_for
from edgevlm.runtime.backends.trt_graph import Scratch, TrtGraph

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
