"""ONNX Runtime's GPU backends: their binding on a device made of host memory, their refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.export.targets.relower import relower
from edgevlm.runtime.backends import ort_cuda, ort_trt, ort_trt_rtx
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.engine_view import local_cache
from edgevlm.runtime.backends.ort_session import CPU, OrtBackend, Provider, on_cpu
from edgevlm.runtime.backends.ort_slots import Place
from edgevlm.runtime.model.decoder import open_decoder
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm


def device_backend(name: str = CPU, *, captures: bool = False, apart: bool = False) -> OrtBackend:
    """The code of ``ort-cuda``, its buffers on the CPU: copied in and out, never shared."""
    place = Place(ort=onnxruntime, device="cpu", captures=captures, apart=apart)
    return OrtBackend(
        "device",
        onnxruntime,
        Provider(name=name, place=place),
        EngineOptions(threads=2, spin=False),
    )


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """``after = before + sum(x)``, ``y = 2 after + bias``: a state, and an input that is kept."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["before", "sum"], ["after"]),
            helper.make_node("Add", ["after", "after"], ["double"]),
            helper.make_node("Add", ["double", "bias"], ["y"]),
        ],
        "counter",
        [
            value("x", TensorProto.FLOAT, ["rows", 4]),
            value("before", TensorProto.FLOAT, [4]),
            value("bias", TensorProto.FLOAT, [4]),
        ],
        [value("after", TensorProto.FLOAT, [4]), value("y", TensorProto.FLOAT, [4])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )
    path = tmp_path / "counter.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("captures", [False, True])
def test_state_and_kept_inputs_stay_on_the_device_whatever_the_shapes(
    counter: Path, captures: bool, apart: bool
):
    backend = device_backend(captures=captures, apart=apart)
    state = backend.load(counter).bind({"after": "before"})
    bias = np.full(4, 0.5, np.float32)
    total = 0
    for turn, rows in enumerate((3, 1, 1, 1, 2, 1, 1, 5, 5, 1)):  # 1: repeated, so captured
        feeds = {"x": np.ones((rows, 4), np.float32)} | ({} if turn else {"bias": bias})
        state.run(feeds, {"y": (4,)})
        total += rows
        np.testing.assert_array_equal(state.output("y"), np.full(4, 2 * total + 0.5))
        np.testing.assert_array_equal(state.output("after"), np.full(4, total))
    # A capture runs a call twice: this state would be counted twice, unless it lies apart.
    assert bool(state._steps) == (captures and apart)
    state.run({"x": np.ones((1, 4), np.float32), "before": np.zeros(4, np.float32)}, {"y": (4,)})
    np.testing.assert_array_equal(state.output("after"), np.ones(4))
    state.close()
    state.close()


class _AnyAddress(HostApi):
    """The device made of host memory, for memory that ONNX Runtime allocated."""

    def require(self, address: int, nbytes: int) -> None:
        assert address
        assert nbytes


@pytest.mark.parametrize("by_host", [False, True])
def test_new_rows_are_put_into_a_cache_of_the_device(tiny: Bundle, tmp_path: Path, by_host: bool):
    api = _AnyAddress()
    graphs = relower(tiny, "trt10-compat", "fp32", tmp_path)
    entry = tiny.manifest.graphs["decoder"]
    lowered = entry.model_copy(update={"lowering": "trt10-compat"})
    manifest = tiny.manifest.model_copy(update={"graphs": {"decoder": lowered}})
    place = Place(ort=onnxruntime, captures=True, cuda=None if by_host else Device(api))
    provider, options = Provider(name=CPU, place=place), EngineOptions(threads=1, spin=False)
    graph = OrtBackend("device", onnxruntime, provider, options).load(graphs["decoder"].path)
    decoder = open_decoder(manifest, graph)
    plain = open_decoder(tiny.manifest, open_backend(spin=False).load(tiny.path("decoder.onnx")))
    rows = np.random.default_rng(2).normal(0, 1, (9, 64)).astype(np.float32)
    for start, stop in ((0, 4), (4, 5), (5, 6), (6, 7), (7, 9)):
        found, wanted = decoder.append(rows[start:stop]), plain.append(rows[start:stop])
        np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert api.counts["copy 2d"] == (0 if by_host else 2 * 2 * 5)  # layers, parts, calls


def test_rows_are_put_into_a_state_too(tiny: Bundle):
    graph = device_backend().load(tiny.path("decoder.onnx"))
    names = {f"present.{n}.{part}": f"past_key_values.{n}.{part}"
             for n in range(2) for part in ("key", "value")}  # fmt: skip
    state = graph.bind(names)
    feeds = {
        "inputs_embeds": np.ones((1, 3, 64), np.float32), "seqlens_k": np.array([2], np.int32),
        "total_sequence_length": np.array(3, np.int32), "num_logits": np.array([1]),
    }  # fmt: skip
    state.run(feeds, {"logits": (1, 258)})
    cache = state.output("present.0.key")
    state.store({"present.1.key": "past_key_values.0.key"}, at=0)  # the whole of another cache
    assert cache[..., :3, :].any()
    np.testing.assert_array_equal(state.output("present.0.key"), state.output("present.1.key"))


def test_what_a_graph_would_freeze_is_a_bound_or_a_graph_of_its_own(tiny: Bundle):
    place = Place(ort=onnxruntime, captures=True)
    provider, options = Provider(name=CPU, place=place), EngineOptions(threads=1, spin=False)
    graph = OrtBackend("device", onnxruntime, provider, options).load(tiny.path("decoder.onnx"))
    graph._on_host = frozenset({"total_sequence_length", "num_logits"})  # as on a GPU
    decoder = open_decoder(tiny.manifest, graph)
    state = decoder._state
    plain = open_decoder(tiny.manifest, open_backend(spin=False).load(tiny.path("decoder.onnx")))
    rows = np.random.default_rng(2).normal(0, 1, (12, 64)).astype(np.float32)
    plan = ((0, 4, 1), (4, 5, 1), (5, 6, 1), (6, 7, 1), (7, 9, 1), (9, 11, 2), (11, 12, 1))
    for start, stop, logits in plan:
        found = decoder.append(rows[start:stop], logits)
        np.testing.assert_allclose(found, plain.append(rows[start:stop], logits), atol=1e-4)
    assert state._steps
    for signature, step in state._steps.items():  # each for one number of logits
        assert step.slots["total_sequence_length"].read() == 700
        assert dict(signature)["num_logits"] == step.slots["num_logits"].read().tobytes()


def test_nano_answers_the_same_from_device_buffers(nano: Bundle):
    picture = np.random.default_rng(5).integers(0, 255, (90, 120, 3), np.uint8)
    with Vlm(nano, open_backend("ort-cpu", threads=2, spin=False)) as plain:
        wanted = plain.ask(picture, "What is it?", max_tokens=6)
    with Vlm(nano, device_backend(captures=True)) as model:
        for _ in range(2):
            assert model.ask(picture, "What is it?", max_tokens=6).token_ids == wanted.token_ids
        assert model.ask(picture, "And now?", max_tokens=3).backend == "device"


def test_a_provider_that_is_not_in_use_is_an_error_and_not_a_slow_session(counter: Path):
    absent = device_backend("CUDAExecutionProvider")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(BackendError, match="was to run on CUDAExecutionProvider and runs on"),
    ):
        absent.load(counter)


def test_the_nodes_that_the_cpu_got_are_counted_by_operator(counter: Path):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(counter), options, providers=[CPU])
    assert on_cpu(session) == {"ReduceSum": 1, "Add": 3}


class _Refusing:
    """onnxruntime as it is where a provider leaves nodes to the CPU, up to its session."""

    def __init__(self, providers: list[str]) -> None:
        self._providers = providers
        self.entries: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def InferenceSession(self, path: str, options: Any, **_chosen: Any) -> Any:
        for key in ("session.disable_cpu_ep_fallback", "session.record_ep_graph_assignment_info"):
            try:
                self.entries.append((key, options.get_session_config_entry(key)))
            except RuntimeError:
                continue
        if ("session.disable_cpu_ep_fallback", "1") in self.entries[-1:]:
            raise RuntimeError("nodes are assigned to the default CPU EP")
        real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        return _Claiming(real, self._providers)


class _Claiming:
    def __init__(self, session: Any, providers: list[str]) -> None:
        self._session = session
        self.get_providers = lambda: providers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def _refused(providers: list[str], **options: Any) -> tuple[OrtBackend, _Refusing]:
    ort = _Refusing(providers)
    provider = Provider(name="CUDAExecutionProvider", place=Place(ort=ort, device="cpu"))
    return OrtBackend("ort-cuda", ort, provider, EngineOptions(**options)), ort


def test_index_arithmetic_may_stay_on_the_cpu_and_real_work_may_not(counter: Path, nano: Bundle):
    claimed = ["CUDAExecutionProvider", CPU]
    backend, ort = _refused(claimed)
    graph = backend.load(counter)  # ReduceSum and Add: indices, as far as their names say
    x = np.ones((2, 4), np.float32)
    zeros = np.zeros(4, np.float32)
    assert graph.run({"x": x, "before": zeros, "bias": zeros})["y"][0] == 4
    assert [key.split(".")[1] for key, _ in ort.entries] == [
        "disable_cpu_ep_fallback", "record_ep_graph_assignment_info",
    ]  # fmt: skip
    with pytest.raises(BackendError, match=r"no kernels for: .*\d+ GroupQueryAttention.*fp16"):
        _refused(claimed)[0].load(nano.path("decoder.onnx"))
    with pytest.raises(BackendError, match=r"no kernels for: .*\d+ Conv.*engine\.cpu_fallback"):
        _refused(claimed)[0].load(nano.path("vision.onnx"))


def test_the_cpu_takes_what_is_left_where_that_was_asked_for(nano: Bundle):
    backend, ort = _refused(["CUDAExecutionProvider", CPU], cpu_fallback=True)
    backend.load(nano.path("vision.onnx")).close()
    assert ort.entries == [("session.record_ep_graph_assignment_info", "1")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ort-cuda", r"needs CUDAExecutionProvider; onnxruntime \S+ here has .*CPUExec.*\[cuda\]"),
        ("ort-trt", r"needs TensorrtExecutionProvider; onnxruntime \S+ here has .*CPUExec"),
        ("ort-trt-rtx", r"needs NVIDIA's plug-in|no NVIDIA driver|finds no card"),
    ],
)
def test_what_is_not_here_is_said_with_what_is(name: str, message: str):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has GPU providers: tests/gpu is for it")
    with pytest.raises(BackendUnavailable, match=message):
        open_backend(name)


def test_a_provider_without_a_driver_is_not_usable(monkeypatch: pytest.MonkeyPatch):
    def no_driver() -> None:
        raise BackendUnavailable("no NVIDIA driver on this machine")

    class Ort:
        @staticmethod
        def get_available_providers() -> list[str]:
            return ["CUDAExecutionProvider", CPU]

    monkeypatch.setattr(ort_cuda, "cuda_device", no_driver)
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver"):
        ort_cuda.require(Ort(), "ort-cuda", ort_cuda.CUDA, "")


def test_the_plug_in_is_registered_once_and_its_card_is_found(monkeypatch: pytest.MonkeyPatch):
    import sys
    import types

    plugin = types.ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
    plugin.get_ep_name = lambda: "NvTensorRTRTX"  # type: ignore[attr-defined]
    plugin.get_library_path = lambda: "/lib/plugin.so"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    monkeypatch.setattr(ort_trt_rtx, "cuda_device", lambda: None)
    card = types.SimpleNamespace(ep_name="NvTensorRTRTX")

    class Ort:
        def __init__(self, cards: list[Any]) -> None:
            self.registered: list[tuple[str, str]] = []
            self._cards = cards

        def get_ep_devices(self) -> list[Any]:
            other = types.SimpleNamespace(ep_name=CPU)
            return [other, *(self._cards if self.registered else [])]

        def register_execution_provider_library(self, name: str, path: str) -> None:
            self.registered.append((name, path))

    ort = Ort([card])
    assert ort_trt_rtx.plugin_device(ort) is card
    assert ort_trt_rtx.plugin_device(ort) is card
    assert ort.registered == [("NvTensorRTRTX", "/lib/plugin.so")]
    with pytest.raises(BackendUnavailable, match="finds no card that it supports"):
        ort_trt_rtx.plugin_device(Ort([]))


def test_caches_of_one_machine_and_version_are_not_those_of_another(nano: Bundle, tiny: Bundle):
    first = local_cache("ort-trt", nano, "1.32", "12.6", "87", "Orin")
    assert first.is_dir()
    assert first == local_cache("ort-trt", nano, "1.32", "12.6", "87", "Orin")
    others = {
        local_cache("ort-trt", nano, "1.33", "12.6", "87", "Orin"),
        local_cache("ort-trt", nano, "1.32", "12.6", "87", "Orin Nano"),
        local_cache("ort-trt", tiny, "1.32", "12.6", "87", "Orin"),
        local_cache("ort-trt-rtx", nano, "1.32", "12.6", "87", "Orin"),
    }
    assert len(others) == 4
    assert first not in others
    assert ort_trt.cached(str(first))["trt_engine_cache_path"] == str(first)
