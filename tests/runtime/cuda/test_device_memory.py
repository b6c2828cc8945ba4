"""Arrays on the device made of host memory: copies, graphs, lifetimes, other libraries."""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import pytest

from edgevlm.errors import BackendError, ContractError
from edgevlm.runtime.backends.cuda.api import DEVICE_TO_DEVICE
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device, DeviceArray


@pytest.fixture
def api() -> HostApi:
    return HostApi()


@pytest.fixture
def device(api: HostApi) -> Device:
    return Device(api)


def test_an_array_begins_with_zeros_and_gives_back_what_was_put(device: Device):
    array = device.array((2, 3), "float16")
    np.testing.assert_array_equal(array.get(), np.zeros((2, 3), np.float16))
    value = np.arange(6, dtype=np.float16).reshape(2, 3)
    array.put(value)
    np.testing.assert_array_equal(array.get(), value)
    with pytest.raises(ContractError, match=r"float16 \(2, 3\) wanted, got float32 \(2, 3\)"):
        array.put(value.astype(np.float32))
    with pytest.raises(ContractError, match="13 bytes at 0 in 12"):
        DeviceArray(array.memory, (13,), "uint8")


def test_work_is_done_when_the_stream_is_waited_for_and_not_before(device: Device):
    exchange = device.exchange((4,), "int32")
    array = device.array((4,), "int32")
    device.synchronize()
    exchange.host[:] = 7
    exchange.to(array.address)
    exchange.host[:] = 8  # too early: the copy has not happened
    device.synchronize()
    np.testing.assert_array_equal(array.get(), np.full(4, 8))


def test_a_gpu_of_its_own_copies_and_one_that_shares_memory_does_not():
    for integrated, copies in ((False, 2), (True, 0)):
        api = HostApi(integrated=integrated)
        device = Device(api)
        exchange = device.exchange((8,), "uint8")
        exchange.host[:] = np.arange(8)
        exchange.upload()
        device.synchronize()
        assert ctypes.string_at(exchange.address, 8) == bytes(range(8))
        exchange.download()
        device.synchronize()
        assert api.counts["copy 1"] + api.counts["copy 2"] == copies
        before = api.memory_info()[0]
        exchange.close()
        exchange.close()
        assert api.memory_info()[0] == before + 8 * (1 if integrated else 2)


def test_rows_are_copied_on_the_device(device: Device):
    cache, rows = device.array((2, 4, 3), "float32"), device.array((2, 2, 3), "float32")
    rows.put(np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    cache.place_rows(rows.address, 2, at=1)
    found = cache.get()
    np.testing.assert_array_equal(found[:, 1:3], rows.get())
    assert not found[:, [0, 3]].any()
    with pytest.raises(ContractError, match="2 rows at 3 of 4"):
        cache.place_rows(rows.address, 2, at=3)


def test_a_graph_does_again_what_was_captured(device: Device, api: HostApi):
    source, target = device.array((4,), "float32"), device.array((4,), "float32")
    device.synchronize()
    api.capture_begin(device.stream)
    api.copy(target.address, source.address, 16, DEVICE_TO_DEVICE, device.stream)
    with pytest.raises(BackendError, match="900"):
        device.synchronize()
    graph = api.capture_end(device.stream)
    assert not target.get().any()  # captured, not run
    for value in (1, 2):
        source.put(np.full(4, value, np.float32))
        api.graph_launch(graph, device.stream)
        np.testing.assert_array_equal(target.get(), np.full(4, value))
    source.memory.close()
    api.graph_launch(graph, device.stream)
    with pytest.raises(BackendError, match="were not allocated"):
        device.synchronize()


def test_events_pass_in_the_order_of_the_stream(device: Device, api: HostApi):
    first, second = api.event_create(), api.event_create()
    api.event_record(first, device.stream)
    api.event_record(second, device.stream)
    with pytest.raises(BackendError, match="cudaErrorNotReady"):
        api.event_elapsed_ms(first, second)
    other = api.stream_create()
    api.stream_wait(other, second)
    api.stream_synchronize(other)
    assert api.event_elapsed_ms(first, second) > 0
    api.event_destroy(first)
    api.stream_destroy(other)
    device.close()
    device.close()


def test_no_room_says_how_much_there_is():
    device = Device(HostApi(total=3 << 20))
    device.allocate(2 << 20)
    with pytest.raises(BackendError, match=r"2 MiB of device memory: 1 of 3 MiB are free.*\(2\)"):
        device.allocate(2 << 20)


def test_numpy_takes_an_array_by_dlpack_where_it_lies(device: Device):
    array = device.array((2, 3), "float32")
    array.put(np.arange(6, dtype=np.float32).reshape(2, 3))
    seen = np.from_dlpack(array)
    assert seen.ctypes.data == array.address
    np.testing.assert_array_equal(seen, array.get())
    for dtype in ("float16", "int64", "int32", "uint8", "int8", "bool"):
        assert np.from_dlpack(device.array((3,), dtype)).dtype == np.dtype(dtype)


def test_torch_takes_an_array_by_dlpack(device: Device):
    torch = pytest.importorskip("torch")
    array = device.array((2, 3), "float32")
    array.put(np.ones((2, 3), np.float32))
    assert torch.from_dlpack(array).sum().item() == 6


def test_memory_that_another_library_holds_outlives_its_owner(device: Device, api: HostApi):
    array = device.array((1024,), "float32")
    device.synchronize()
    before = api.memory_info()[0]
    seen = np.from_dlpack(array)
    array.memory.close()
    array.memory.close()
    assert api.memory_info()[0] == before
    assert not seen.any()
    del seen
    gc.collect()
    assert api.memory_info()[0] == before + 4096


def test_a_capsule_that_nobody_takes_holds_nothing(device: Device, api: HostApi):
    array = device.array((1024,), "float32")
    device.synchronize()
    before = api.memory_info()[0]
    capsule = array.__dlpack__()
    array.memory.close()
    assert api.memory_info()[0] == before
    del capsule
    gc.collect()
    assert api.memory_info()[0] == before + 4096


def test_a_copy_or_another_device_is_refused(device: Device):
    array = device.array((2,), "float32")
    assert array.__dlpack_device__() == (1, 0)
    for wanted in ({"copy": True}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError, match="without a copy"):
            array.__dlpack__(**wanted)


def test_the_cuda_array_interface_is_version_3(device: Device):
    array = device.array((2, 3), "float16")
    assert array.__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<f2",
        "data": (array.address, False),
        "strides": None,
        "stream": device.stream,
        "version": 3,
    }
