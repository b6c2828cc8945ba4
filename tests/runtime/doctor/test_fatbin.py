"""Which GPUs a library was compiled for: on laid-out files, on damaged ones, on a real one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgevlm.runtime.device.doctor.fatbin import GpuCode, NotReadable, gpu_code, needed_libraries
from tests.runtime.doctor.elf import CUBIN, PTX, container, elf, entry, library


def code(cubins: set[int], ptx: set[int] = frozenset()) -> GpuCode:  # type: ignore[assignment]
    return GpuCode(frozenset(cubins), frozenset(ptx))


def test_every_container_and_every_entry_is_read(tmp_path: Path):
    several = container([entry(CUBIN, 75), entry(CUBIN, 120, header=104), entry(PTX, 90, 144)])
    padded = several + bytes(24) + container([entry(CUBIN, 87)])
    path = tmp_path / "lib.so"
    path.write_bytes(elf({".nv_fatbin": padded, "__nv_relfatbin": container([entry(CUBIN, 53)])}))
    assert gpu_code(path) == code({53, 75, 87, 120}, {90})
    assert str(gpu_code(path)) == "sm_53 sm_75 sm_87 sm_120, PTX 90"


def test_the_magic_number_counts_in_its_own_sections_only(tmp_path: Path):
    path = tmp_path / "lib.so"
    path.write_bytes(elf({".rodata": container([entry(CUBIN, 86)])}))
    assert gpu_code(path) == code(set())
    assert str(gpu_code(path)) == "no GPU code"


@pytest.mark.parametrize(
    ("built_for", "sm", "runs"),
    [
        (code({87}), 87, True),
        (code({86}), 87, False),  # no binary compatibility from desktop to Tegra
        (code({80}), 86, True),
        (code({86}), 80, False),  # not to earlier ones
        (code({87}), 89, False),  # nor from Tegra to desktop
        (code({75}), 86, False),  # nor over a major version
        (code({75, 86, 89, 90, 120}), 110, False),
        (code({89}, {80}), 87, True),  # PTX is compiled for whatever comes later
        (code({89}, {90}), 87, False),
        (code(set()), 86, False),
    ],
)
def test_what_code_runs_where(built_for: GpuCode, sm: int, runs: bool):
    assert built_for.runs_on(sm) is runs


def test_the_libraries_that_it_needs(tmp_path: Path):
    path = tmp_path / "lib.so"
    path.write_bytes(elf({}, needed=["libnvinfer.so.10", "libc.so.6"]))
    assert needed_libraries(path) == ["libnvinfer.so.10", "libc.so.6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "not a little-endian 64-bit ELF file"),
        (b"\x7fELF\x02\x01", "truncated"),
        (elf({".nv_fatbin": container([entry(CUBIN, 86)])[:-1]}), "outside its section"),
        (elf({".nv_fatbin": container([entry(CUBIN, 86, header=64)[:4] + bytes(60)])}), "unknown"),
    ],
)
def test_what_is_not_readable_is_said(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    with pytest.raises(NotReadable, match=message):
        gpu_code(path)


def test_a_file_cut_short_or_damaged_anywhere_is_refused_or_read(tmp_path: Path):
    whole = library(tmp_path / "whole.so", [86, 87], [90]).read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 3)]
    damaged += [whole[:i] + b"\xff" + whole[i + 1 :] for i in range(0, len(whole), 3)]
    path = tmp_path / "lib.so"
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        for read in (gpu_code, needed_libraries):
            try:
                read(path)
            except NotReadable:
                refused += 1
    assert refused > len(damaged) // 2


def test_the_library_of_tensorrt_for_rtx_holds_the_cards_of_its_support_matrix():
    found = importlib.util.find_spec("tensorrt_rtx_libs")
    if found is None or found.origin is None:
        pytest.skip("tensorrt-rtx-cu13 is not installed: make install EXTRAS=trt-rtx")
    built_for = gpu_code(Path(found.origin).parent / "libtensorrt_rtx.so.1")
    for sm in (75, 86, 89, 120, 121):
        assert built_for.runs_on(sm), sm
    assert not built_for.runs_on(87)
