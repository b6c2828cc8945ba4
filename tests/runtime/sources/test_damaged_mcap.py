"""MCAP files that are damaged: read as far as they go, and what is lost is said."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.frame import SourceFault
from edgevlm.runtime.stream.sources import mcap_file
from edgevlm.runtime.stream.sources.recording import RecordingSource
from tests.runtime.sources.ros_logs import (
    faults_of,
    frames_of,
    many,
    same,
    uri,
)


def test_a_recording_that_was_cut_off_is_read_to_where_it_ends(tmp_path):
    path, shots, chunks = many(tmp_path)
    at, length = chunks[5]
    path.write_bytes(path.read_bytes()[: at + length // 2])
    items = list(RecordingSource(uri(path)).frames())
    numbers = same(frames_of(items), shots)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 5 * 2
    ((code, message),) = faults_of(items)
    assert code == "damaged"
    assert f"cannot be read on at byte {at}" in message


@pytest.mark.parametrize("compression", list(CompressionType))
def test_a_damaged_chunk_is_skipped_and_its_time_is_said(tmp_path, compression):
    path, shots, chunks = many(tmp_path, compression=compression)
    data = bytearray(path.read_bytes())
    at, length = chunks[3]
    data[at + length - 200] ^= 0xFF
    path.write_bytes(data)
    items = list(RecordingSource(uri(path)).frames())
    numbers = same(frames_of(items), shots)
    assert 0 < 40 - len(numbers) <= 4
    assert numbers[-1] == 39
    ((code, message),) = faults_of(items)
    assert code == "damaged"
    assert "a chunk at byte" in message
    lost = next(n for n in range(40) if n not in numbers)
    assert f"{1_700_000_000 + lost / 10:.3f} s to" in message


def test_a_chunk_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    path, _, chunks = many(tmp_path)
    data = bytearray(path.read_bytes())
    at, _ = chunks[2]
    data[at + 9 + 16 : at + 9 + 24] = struct.pack("<Q", 100)  # uncompressed_size
    at, _ = chunks[4]
    data[at + 9 + 16 : at + 9 + 24] = struct.pack("<Q", 1 << 50)
    path.write_bytes(data)
    faults = faults_of(RecordingSource(uri(path)).frames())
    assert [code for code, _ in faults] == ["damaged", "damaged"]
    assert "unpacks to another size than 100 bytes" in faults[0][1]
    assert f"the cap is {mcap_file.LARGEST_CHUNK}" in faults[1][1]


def test_a_length_beyond_the_file_allocates_nothing(tmp_path):
    path, shots, chunks = many(tmp_path)
    data = bytearray(path.read_bytes())
    at, _ = chunks[6]
    data[at + 1 : at + 9] = struct.pack("<Q", 1 << 45)
    path.write_bytes(data)
    items = list(RecordingSource(uri(path)).frames())
    assert len(same(frames_of(items), shots)) >= 10
    assert "exceeds limit" in faults_of(items)[0][1]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), flips=st.integers(1, 30), cut=st.floats(0.05, 1))
def test_no_damage_escapes_as_anything_but_a_fault(tmp_path, collect, seed, flips, cut):
    original = tmp_path / "whole"
    if not original.exists():
        many(tmp_path, 12)[0].rename(original)
    rng = random.Random(seed)
    data = bytearray(original.read_bytes())
    for _ in range(flips):
        data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
    path = tmp_path / "damaged.mcap"
    path.write_bytes(data[: max(9, int(len(data) * cut))])
    try:
        items, error = collect(RecordingSource(uri(path)))
    except (SourceUnavailable, ConfigError):  # the topic went with the damage
        return
    assert error is None or "\n" not in str(error)
    counted = [i.index for i in items if not isinstance(i, SourceFault)]
    assert counted == list(range(len(counted)))
    for frame in frames_of(items):
        assert frame.pixels.rgb().ndim == 3
