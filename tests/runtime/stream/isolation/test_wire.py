"""What goes from one process to another: bounded, checked, never executed."""

from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevlm.errors import ContractError
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.vision import Encoded, Segment
from edgevlm.runtime.stream.isolation import shared
from edgevlm.runtime.stream.isolation.channel import MOST_BYTES, Broken, Channel
from edgevlm.runtime.stream.isolation.messages import TO_CHILD, TO_PARENT, Ask, Beat, EncodeText
from edgevlm.runtime.stream.isolation.shared import Placed, SharedArrays
from edgevlm.runtime.stream.isolation.trees import packed, unpacked


def test_a_message_arrives_as_it_was_sent():
    drafts = Drafts()
    drafts.end([3, 1, 4])
    drafts.note(True, 3, 2, 0)
    question = Ask(
        number=7, lane=0, messages=[{"role": "user", "content": [{"type": "image", "image": 0}]}],
        pictures=[{"array": 0}], arrays=[Placed(at=0, dtype="uint8", shape=(2, 3, 3))],
        schema_={"type": "object"}, max_tokens=9, temperature=float("inf"), top_p=0.5, seed=None,
        drafts=drafts, deadline_ns=2**62,
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    sender, receiver = Channel(ours, TO_PARENT), Channel(theirs, TO_CHILD)
    sender.send(question, 1)
    assert receiver.waits(1)
    assert receiver.receive(1) == question
    sender.close()
    with pytest.raises(Broken, match="closed its connection") as error:
        receiver.receive(1)
    assert error.value.closed
    receiver.close()


def test_a_message_that_is_too_long_is_not_begun_and_one_that_nobody_takes_is_given_up():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, TO_PARENT)
    with pytest.raises(ValueError, match="the cap is"):
        channel.send(EncodeText(number=1, lane=0, texts=["x" * MOST_BYTES]), 1)
    assert not Channel(theirs, TO_CHILD).waits(0)
    with pytest.raises(Broken, match="took no message"):
        channel.send(EncodeText(number=1, lane=0, texts=["x" * (MOST_BYTES // 2)]), 0.05)
    ours.close()
    theirs.close()


@given(st.binary(max_size=64))
@settings(deadline=None, max_examples=200)
def test_whatever_comes_is_a_message_or_broken(raw: bytes):
    ours, theirs = socket.socketpair()
    theirs.sendall(raw)
    theirs.close()
    with pytest.raises(Broken):
        Channel(ours, TO_PARENT).receive(1)
    ours.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uint8", "int64", "float32", "float16"]),
            st.lists(st.integers(0, 5), max_size=4),
        ),
        max_size=6,
    )
)
@settings(deadline=None, max_examples=50)
def test_arrays_are_read_as_they_were_written(kinds):
    writer = SharedArrays()
    reader = SharedArrays(os.dup(writer.descriptor))
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 99, shape).astype(dtype) for dtype, shape in kinds]
    for place, array in zip(writer.write(arrays), arrays, strict=True):
        found = reader.read(place)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert not found.flags.writeable
    writer.close()
    reader.close()


def test_arrays_that_are_not_contiguous_and_memory_that_grows():
    writer = SharedArrays()
    reader = SharedArrays(os.dup(writer.descriptor))
    small = reader.read(writer.write([np.arange(6, dtype=np.int32)[::2]])[0])
    np.testing.assert_array_equal(small, [0, 2, 4])
    picture = np.arange(3 * 4096, dtype=np.int64).reshape(3, -1)
    big = reader.read(writer.write([picture[:, ::-1]])[0])
    np.testing.assert_array_equal(big, picture[:, ::-1])
    size = writer.size
    writer.write([np.zeros(3, np.uint8)])
    assert writer.size == size == os.fstat(reader.descriptor).st_size
    with pytest.raises(OSError, match="not permitted"):  # a broken child cannot cut it either
        os.ftruncate(reader.descriptor, 8)
    writer.close()
    reader.close()
    writer.close()


def test_what_has_no_place_is_refused(monkeypatch: pytest.MonkeyPatch):
    memory = SharedArrays()
    monkeypatch.setattr(shared, "MOST_BYTES", 1000)
    with pytest.raises(ContractError, match="the cap is 1000"):
        memory.write([np.zeros(1001, np.uint8)])
    with pytest.raises(ContractError, match="complex128"):
        memory.write([np.zeros(1, np.complex128)])
    memory.write([np.zeros(100, np.uint8)])
    for place in [(0, "uint8", (200,)), (124, "float32", (2,)), (1, "float32", (2,))]:
        at, dtype, shape = place
        with pytest.raises(ContractError, match="an array up to byte"):
            memory.read(Placed(at=at, dtype=dtype, shape=shape))
    with pytest.raises(ContractError, match="of shape"):
        memory.read(Placed(at=0, dtype="uint8", shape=(-1, -50)))
    memory.close()


def test_what_an_encoder_gave_goes_over_and_comes_back():
    given = Encoded(
        segments=(Segment(np.ones((2, 3), np.float32), None, (1, 2)),),
        expansion=("<row_1>", 0), outputs={"features": np.zeros((4,), np.float32)},
        labels=(("dog", np.float64(0.25)),), source=(480, 640), extent=None, encode_ms=1.5,
    )  # fmt: skip
    arrays: list[np.ndarray] = []
    found = unpacked(packed(given, arrays), arrays)
    assert isinstance(found, Encoded)
    np.testing.assert_array_equal(found.tokens, given.tokens)
    assert found.segments[0].grid == (1, 2)
    assert list(found.outputs) == ["features"]
    for name in ("expansion", "labels", "source", "extent", "encode_ms", "pixels"):
        assert getattr(found, name) == getattr(given, name)
    with pytest.raises(ContractError, match="set cannot go"):
        packed({1, 2}, [])


@pytest.mark.parametrize(
    "tree",
    [
        {}, {"array": 1}, {"array": "0"}, {"array": None}, {"run": "rm"}, {"encoded": []},
        {"encoded": {"segment": 1, "more": 2}}, {"segment": {}}, {"named": 3},
        {"array": 0, "segment": {}},
    ],
)  # fmt: skip
def test_trees_that_are_none(tree):
    with pytest.raises(ContractError, match="no tree"):
        unpacked([tree], [np.zeros(1)])


def test_beats_are_small():
    assert len(Beat(number=2**31).model_dump_json()) < 100
