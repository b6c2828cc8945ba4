"""Device memory on a real GPU, through every binding that is installed."""

from __future__ import annotations

import numpy as np
import pytest

from edgevlm.cuda_driver import CudaDevice
from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.runtime.backends.cuda.api import DEVICE_TO_DEVICE, CudaApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.cuda.open import CHOICES

pytestmark = pytest.mark.gpu


@pytest.fixture(params=CHOICES, ids=lambda choice: choice.__name__)
def api(request: pytest.FixtureRequest) -> CudaApi:
    try:
        found: CudaApi = request.param(0)
    except BackendUnavailable as exc:
        pytest.skip(str(exc))
    return found


@pytest.fixture
def device(api: CudaApi) -> Device:
    return Device(api)


def test_the_binding_and_the_driver_agree_on_the_device(api: CudaApi, gpu: CudaDevice):
    facts = api.facts()
    assert (facts.name, str(facts.sm), facts.integrated) == (gpu.name, gpu.sm, gpu.integrated)
    free, total = api.memory_info()
    assert 0 < free <= total


def test_bytes_go_to_the_gpu_and_back(device: Device):
    value = np.random.default_rng(1).normal(0, 1, (257, 129)).astype(np.float32)
    array = device.array(value.shape, "float32")
    assert not array.get().any()
    array.put(value)
    np.testing.assert_array_equal(array.get(), value)
    array.memory.close()


def test_rows_are_placed_on_the_gpu(device: Device):
    cache, rows = device.array((2, 8, 64), "float16"), device.array((2, 3, 64), "float16")
    rows.put(np.ones((2, 3, 64), np.float16))
    cache.place_rows(rows.address, 3, at=4)
    found = cache.get()
    assert found[:, 4:7].all()
    assert not found[:, [0, 1, 2, 3, 7]].any()


def test_an_exchange_is_seen_by_both_sides(device: Device):
    exchange = device.exchange((1024,), "uint8")
    array = device.array((1024,), "uint8")
    exchange.host[:] = np.arange(1024) % 251
    exchange.upload()
    array.copy_from(exchange.address)
    device.synchronize()
    np.testing.assert_array_equal(array.get(), exchange.host)
    exchange.close()


def test_a_captured_copy_runs_at_every_launch_and_takes_time(device: Device, api: CudaApi):
    if not api.graphs:
        pytest.skip(f"{api.name} has no graphs")
    source, target = device.array((1 << 20,), "float32"), device.array((1 << 20,), "float32")
    device.synchronize()
    api.capture_begin(device.stream)
    api.copy(target.address, source.address, source.nbytes, DEVICE_TO_DEVICE, device.stream)
    graph = api.capture_end(device.stream)
    first, second = api.event_create(), api.event_create()
    for value in (1, 2):
        source.put(np.full(1 << 20, value, np.float32))
        api.event_record(first, device.stream)
        api.graph_launch(graph, device.stream)
        api.event_record(second, device.stream)
        assert (target.get() == value).all()
    assert 0 < api.event_elapsed_ms(first, second) < 1000
    api.graph_destroy(graph)


def test_more_than_there_is_says_how_much_there_is(device: Device):
    with pytest.raises(BackendError, match=r"MiB of device memory: \d+ of \d+ MiB are free"):
        device.allocate(1 << 46)


def test_torch_takes_an_array_where_it_lies(device: Device):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    array = device.array((2, 3), "float32")
    array.put(np.ones((2, 3), np.float32))
    seen = torch.from_dlpack(array)
    assert (seen.data_ptr(), seen.sum().item()) == (array.address, 6)
    assert torch.as_tensor(array, device="cuda").data_ptr() == array.address
