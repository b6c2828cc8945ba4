"""What the NVIDIA driver says of its first device, without any CUDA package installed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from edgevlm.errors import BackendUnavailable

LIBRARY = "libcuda.so.1"
_COMPUTE_MAJOR, _COMPUTE_MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_REMEDY = (
    "on a Jetson run this outside a container, or in one started with --runtime nvidia; on a "
    "desktop install NVIDIA's driver (nvidia-smi must list the card)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevice:
    """One device.

    Args:
        name: as NVIDIA sells it.
        sm: compute capability without the dot, ``"87"``.
        cuda: highest CUDA version that the driver serves, ``"12.6"``.
        integrated: it shares the host's memory.
        memory_bytes: of the device.
    """

    name: str
    sm: str
    cuda: str
    integrated: bool
    memory_bytes: int


def cuda_device(index: int = 0, library: str = LIBRARY) -> CudaDevice:
    """Ask the driver for one device.

    Args:
        index: which one, as CUDA counts.
        library: the driver's library.

    Raises:
        BackendUnavailable: no driver, no device, or the driver refuses; with its reason.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as exc:
        raise BackendUnavailable(f"no NVIDIA driver on this machine ({exc}); {_REMEDY}") from exc

    def call(name: str, *arguments: object) -> None:
        if (code := getattr(driver, name)(*arguments)) != 0:
            raise BackendUnavailable(f"the NVIDIA driver's {name} fails with {code}; {_REMEDY}")

    def number(name: str, *arguments: object) -> int:
        found = ctypes.c_int()
        call(name, ctypes.byref(found), *arguments)
        return found.value

    call("cuInit", 0)
    version = number("cuDriverGetVersion")
    device = number("cuDeviceGet", index)
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major = number("cuDeviceGetAttribute", _COMPUTE_MAJOR, device)
    minor = number("cuDeviceGetAttribute", _COMPUTE_MINOR, device)
    return CudaDevice(
        name=name.value.decode("utf-8", "replace"),
        sm=f"{major}{minor}",
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        integrated=bool(number("cuDeviceGetAttribute", _INTEGRATED, device)),
        memory_bytes=memory.value,
    )
