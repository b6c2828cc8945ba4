"""The adapters: ctypes on a C library compiled here, cuda-bindings on the real package."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.runtime.backends.cuda.api import DEVICE_TO_HOST, HOST_TO_DEVICE, CudaApi, version_text
from edgevlm.runtime.backends.cuda.bindings import CudaBindings
from edgevlm.runtime.backends.cuda.cudart import Cudart
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.cuda.open import open_cuda
from edgevlm.runtime.backends.cuda.pycuda_driver import PyCuda
from tests.conftest import missing

STREAM, EVENT, GRAPH, RUN = 0x7FFF00000010, 0x7FFF00000020, 0x7FFF00000030, 0x7FFF00000040


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C library beside this file, compiled."""
    compiler = shutil.which("cc") or missing("a C compiler is missing: apt-get install gcc")
    made = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).parent / "cudart.c"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(made), str(source)], check=True
    )
    return made


@pytest.fixture
def fake(library: Path, tmp_path: Path) -> tuple[Cudart, ctypes.CDLL]:
    """The adapter on a library of its own, and that library."""
    own = tmp_path / "libcudart.so"
    shutil.copy(library, own)
    handle = ctypes.CDLL(str(own))
    handle.fake_log.restype = ctypes.c_char_p
    return Cudart(0, str(own)), handle


def log_of(handle: ctypes.CDLL) -> list[str]:
    return handle.fake_log().decode().strip(";").split(";")


def test_what_the_ctypes_adapter_says_arrives_whole_in_c(fake: tuple[Cudart, ctypes.CDLL]):
    cuda, handle = fake
    facts = cuda.facts()
    assert (facts.name, facts.sm, facts.integrated) == ("Made of host memory", 87, True)
    assert facts.runtime == "12.6"
    assert cuda.memory_info() == (3 << 30, 8 << 30)
    stream, first, second = cuda.stream_create(), cuda.event_create(), cuda.event_create()
    assert (stream, first) == (STREAM, EVENT)
    cuda.event_record(first, stream)
    cuda.stream_wait(stream, second)
    assert cuda.event_elapsed_ms(first, second) == 1.5
    cuda.capture_begin(stream)
    graph = cuda.capture_end(stream)
    assert graph == RUN
    cuda.graph_launch(graph, stream)
    cuda.graph_destroy(graph)
    cuda.event_destroy(first)
    cuda.stream_synchronize(stream)
    cuda.stream_destroy(stream)
    said = log_of(handle)
    assert said[-12:] == [
        f"record {EVENT:x} stream {STREAM:x}", f"stream {STREAM:x} for event {EVENT:x} 0",
        f"elapsed {EVENT:x} {EVENT:x}", f"begin {STREAM:x} 1", f"end {STREAM:x}",
        f"instantiate {GRAPH:x} 0", f"no graph {GRAPH:x}", f"launch {RUN:x} stream {STREAM:x}",
        f"no run {RUN:x}", f"no event {EVENT:x}", f"wait {STREAM:x}", f"destroy {STREAM:x}",
    ]  # fmt: skip


def test_bytes_go_there_and_back_through_c(fake: tuple[Cudart, ctypes.CDLL]):
    cuda, handle = fake
    stream = cuda.stream_create()
    host, device = cuda.host_alloc(16), cuda.malloc(16)
    ctypes.memmove(host, bytes(range(16)), 16)
    cuda.copy(device, host, 16, HOST_TO_DEVICE, stream)
    cuda.fill(host, 0xFF, 16, stream)
    cuda.copy(host, device, 12, DEVICE_TO_HOST, stream)
    assert ctypes.string_at(host, 16) == bytes(range(12)) + b"\xff" * 4
    assert cuda.host_pointer(host) == host
    cuda.copy_2d((device, 8), (host + 12, 1), 1, 2, stream)
    assert ctypes.string_at(device, 9) == b"\xff" + bytes(range(1, 8)) + b"\xff"
    cuda.free(device)
    cuda.host_free(host)
    assert "host 16 3" in log_of(handle)  # portable and mapped


def test_a_code_becomes_an_error_with_name_number_and_remedy(fake: tuple[Cudart, ctypes.CDLL]):
    cuda, handle = fake
    handle.fake_fail(2)
    with pytest.raises(
        BackendError, match=r"cudaMalloc failed with cudaErrorMemoryAllocation \(2"
    ) as caught:
        cuda.malloc(16)
    assert not isinstance(caught.value, BackendUnavailable)
    assert "--max-context" in str(caught.value)
    handle.fake_fail(700)
    with pytest.raises(BackendError, match=r"cudaErrorIllegalAddress \(700\)$"):
        cuda.stream_synchronize(STREAM)
    handle.fake_fail(31)
    with pytest.raises(BackendError, match=r"an unknown error \(31\)"):
        cuda.free(0)
    device = Device(cuda)
    handle.fake_fail(2)
    with pytest.raises(BackendError, match=r"3 MiB of device memory: 3072 of 8192 MiB are free"):
        device.allocate(3 << 20)


def test_a_machine_without_a_driver_is_told_apart_from_a_failure(
    fake: tuple[Cudart, ctypes.CDLL],
):
    cuda, handle = fake
    handle.fake_fail(35)
    with pytest.raises(BackendUnavailable, match="the NVIDIA driver is missing or older"):
        cuda.stream_create()


def test_a_library_that_is_not_there_or_too_old_is_named(tmp_path: Path):
    with pytest.raises(BackendUnavailable, match=r"libcudart: .*gone\.so"):
        Cudart(0, str(tmp_path / "gone.so"))
    source, made = tmp_path / "old.c", tmp_path / "libold.so"
    source.write_text("const char *cudaGetErrorName(int code) { return 0; }\n")
    compiler = shutil.which("cc") or missing("a C compiler is missing: apt-get install gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
    with pytest.raises(BackendUnavailable, match="has no cudaSetDevice: CUDA 12 or newer"):
        Cudart(0, str(made))


def _driver_is_missing() -> bool:
    try:
        open_cuda(0, (CudaBindings,))
    except BackendUnavailable:
        return True
    return False


CALLS: dict[str, Callable[[CudaApi], object]] = {
    "facts": lambda c: c.facts(),
    "memory_info": lambda c: c.memory_info(),
    "malloc": lambda c: c.malloc(16),
    "free": lambda c: c.free(256),
    "host_alloc": lambda c: c.host_alloc(16),
    "host_free": lambda c: c.host_free(256),
    "host_pointer": lambda c: c.host_pointer(256),
    "copy": lambda c: c.copy(256, 512, 16, HOST_TO_DEVICE, 7),
    "copy_2d": lambda c: c.copy_2d((256, 8), (512, 16), 4, 3, 7),
    "fill": lambda c: c.fill(256, 0, 16, 7),
    "stream_create": lambda c: c.stream_create(),
    "stream_destroy": lambda c: c.stream_destroy(7),
    "stream_synchronize": lambda c: c.stream_synchronize(7),
    "stream_wait": lambda c: c.stream_wait(7, 8),
    "event_create": lambda c: c.event_create(),
    "event_destroy": lambda c: c.event_destroy(8),
    "event_record": lambda c: c.event_record(8, 7),
    "event_elapsed_ms": lambda c: c.event_elapsed_ms(8, 9),
    "capture_begin": lambda c: c.capture_begin(7),
    "capture_end": lambda c: c.capture_end(7),
    "graph_launch": lambda c: c.graph_launch(11, 7),
    "graph_destroy": lambda c: c.graph_destroy(11),
}


def test_every_call_of_the_interface_is_tried():
    declared = {n for n in vars(CudaApi) if not n.startswith("_")} - {"name", "graphs"}
    assert set(CALLS) == declared
    for adapter in (CudaBindings, Cudart, PyCuda, HostApi):
        assert declared <= {n for n in dir(adapter) if not n.startswith("_")}, adapter


@pytest.mark.skipif(
    importlib.util.find_spec("cuda") is None, reason="cuda-bindings is not installed"
)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_cuda_bindings_takes_our_arguments_and_says_that_there_is_no_driver(
    call: str, monkeypatch: pytest.MonkeyPatch
):
    if not _driver_is_missing():
        pytest.skip("this machine has a driver: tests/gpu tries the calls for real")
    with pytest.raises(BackendUnavailable, match=r"cudaSetDevice .*InsufficientDriver \(35\)"):
        CudaBindings()
    with monkeypatch.context() as patch:
        patch.setattr(CudaBindings, "_call", lambda *_a: None)
        cuda = CudaBindings()
    with pytest.raises(BackendUnavailable, match="the NVIDIA driver is missing or older"):
        CALLS[call](cuda)


def test_every_binding_is_tried_and_every_reason_is_given(fake: tuple[Cudart, ctypes.CDLL]):
    def no(_device: int) -> CudaApi:
        raise BackendUnavailable("first: not installed")

    assert open_cuda(0, (no, lambda _d: fake[0])) is fake[0]
    with pytest.raises(BackendUnavailable, match=r"no usable GPU: first: not .*; first: not"):
        open_cuda(0, (no, no))


def test_versions_read_as_people_write_them():
    assert [version_text(n) for n in (12060, 13000, 11040)] == ["12.6", "13.0", "11.4"]
