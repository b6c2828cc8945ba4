"""The table of devices, and how one is found by name."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import Field, TypeAdapter

from edgevlm.bundle.images import Strict
from edgevlm.bundle.manifest import Precision
from edgevlm.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

THIS = "this"


class Device(Strict):
    """One device in one power mode; units in the names, arithmetic dense.

    Args:
        tensor_tflops: of matrix units with float16 inputs; None where there are none.
        vector_tflops: of float32 outside them.
        int8: how many times faster 8-bit integers are, where an engine computes with them.
        fp4: likewise.
        usable_gb: memory that a model can have.
        unified: processor and accelerator share the memory.
        power_w: of the mode; None where it has no cap.
        cma_mib: largest contiguous allocation; None where there is no such limit.
        measured_tflops: of matrix products in each precision, on this machine.
        measured_gb_s: how fast the weights of a one-row product are read in each precision.
        source: of each figure: keys of the table ``sources``, or ``measured``.
    """

    title: str
    kind: Literal["gpu", "cpu"]
    tensor_tflops: float | None = Field(default=None, gt=0)
    vector_tflops: float = Field(gt=0)
    int8: float = Field(default=1.0, gt=0)
    fp4: float | None = Field(default=None, gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    usable_gb: float = Field(gt=0)
    unified: bool = False
    power_w: float | None = Field(default=None, gt=0)
    cma_mib: int | None = Field(default=None, gt=0)
    measured_tflops: Mapping[Precision, float] = Field(default_factory=dict)
    measured_gb_s: Mapping[Precision, float] = Field(default_factory=dict)
    source: Mapping[str, str]
    note: str = ""


@cache
def _file() -> Mapping[str, Any]:
    text = resources.files("edgevlm.runtime.device.plan").joinpath("devices.toml")
    found: Mapping[str, Any] = tomllib.loads(text.read_text("utf-8"))
    return found


def sources() -> Mapping[str, str]:
    """Where the figures come from, by the keys that devices name."""
    return TypeAdapter(dict[str, str]).validate_python(_file()["sources"])


def known() -> Mapping[str, Device]:
    """Every device of the table, by name."""
    return TypeAdapter(dict[str, Device]).validate_python(_file()["devices"])


def find(name: str) -> Device:
    """A device of the table.

    Raises:
        ConfigError: no such name; the message gives those that are near.
    """
    table = known()
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, [*table, THIS], n=4, cutoff=0.3)
    near += [n for n in table if name in n and n not in near]
    hint = f"near: {', '.join(near[:6])}" if near else f"there are {', '.join([*table, THIS])}"
    raise ConfigError(f"--device {name!r} is not in the table; {hint} (edgevlm list devices)")
