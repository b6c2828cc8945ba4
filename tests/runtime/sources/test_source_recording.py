"""Robot logs, written by mcap_ros2 and rosbags, whole and damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from mcap_ros2.writer import Writer as RosWriter
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

from edgevlm.errors import ConfigError, SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.sources import mcap_file, open_source
from edgevlm.runtime.stream.sources.recording import RecordingSource
from tests.runtime.sources.conftest import picture

TOPIC = "/camera/image"
HEADER = """std_msgs/Header header
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
IMAGE = HEADER.replace(
    "std_msgs/Header header\n",
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\n"
    "uint32 step\nuint8[] data\n",
    1,
)
COMPRESSED = HEADER.replace(
    "std_msgs/Header header\n", "std_msgs/Header header\nstring format\nuint8[] data\n", 1
)
TEXT = "string data\n"


def header(n: int) -> dict[str, object]:
    return {"stamp": {"sec": 1_600_000_000 + n, "nanosec": 250_000_000}, "frame_id": "front_left"}


def image(n: int, rgb: np.ndarray, **changes: object) -> dict[str, object]:
    height, width = rgb.shape[:2]
    return {
        "header": header(n), "height": height, "width": width, "encoding": "rgb8",
        "is_bigendian": 0, "step": 3 * width, "data": rgb.tobytes(), **changes,
    }  # fmt: skip


def write(
    path: Path, messages, *, compression=CompressionType.ZSTD, chunk_size=1 << 20, text=True
) -> Path:
    """A log of images on TOPIC, ten a second, with a text topic beside them."""
    with path.open("wb") as out:
        writer = RosWriter(out, chunk_size=chunk_size, compression=compression)
        schemas = {
            "raw": writer.register_msgdef("sensor_msgs/msg/Image", IMAGE),
            "compressed": writer.register_msgdef("sensor_msgs/msg/CompressedImage", COMPRESSED),
        }
        words = writer.register_msgdef("std_msgs/msg/String", TEXT)
        for n, message in enumerate(messages):
            at = 1_700_000_000_000_000_000 + n * 100_000_000
            kind = "compressed" if "format" in message else "raw"
            writer.write_message(TOPIC, schemas[kind], message, at, at, n)
            if text:
                writer.write_message("/words", words, {"data": f"frame {n}"}, at, at, n)
        writer.finish()
    return path


def uri(path: Path, scheme: str = "mcap", topic: str | None = TOPIC) -> str:
    return f"{scheme}:{path}" + (f"?topic={topic}" if topic else "")


def frames_of(items):
    return [i for i in items if isinstance(i, Frame)]


def faults_of(items):
    return [(i.code, i.message) for i in items if isinstance(i, SourceFault)]


@pytest.fixture
def pictures():
    return [picture(n, (40, 30)) for n in range(10)]


@pytest.mark.parametrize("compression", list(CompressionType))
def test_images_come_with_the_stamps_and_names_of_their_headers(
    tmp_path, pictures, clock, compression
):
    path = write(
        tmp_path / "a.mcap", (image(n, p) for n, p in enumerate(pictures)),
        compression=compression, chunk_size=8000,
    )  # fmt: skip
    source = open_source(uri(path), clock=clock)
    assert (source.name, source.live) == (f"mcap:{path}", False)
    frames = list(source.frames())
    assert [f.index for f in frames] == list(range(10))
    assert [f.media_s for f in frames] == pytest.approx([n / 10 for n in range(10)])
    assert [f.captured_ns for f in frames] == [
        (1_600_000_000 + n) * 10**9 + 250_000_000 for n in range(10)
    ]
    assert {(f.clock, f.frame_id) for f in frames} == {("header", "front_left")}
    assert {f.monotonic_ns for f in frames} == {clock.monotonic_ns()}
    for frame, rgb in zip(frames, pictures, strict=True):
        np.testing.assert_array_equal(frame.pixels.rgb(), rgb)
    assert len(list(RecordingSource(uri(path, topic=None)).frames())) == 10


def test_a_header_without_a_stamp_leaves_the_time_of_recording(tmp_path, pictures):
    empty = {"stamp": {"sec": 0, "nanosec": 0}, "frame_id": ""}
    path = write(tmp_path / "a.mcap", [image(0, pictures[0], header=empty)])
    (frame,) = RecordingSource(uri(path)).frames()
    assert (frame.clock, frame.captured_ns) == ("arrival", 1_700_000_000_000_000_000)
    assert frame.frame_id is None


def test_realtime_keeps_the_pace_of_recording(tmp_path, pictures, clock):
    path = write(tmp_path / "a.mcap", (image(n, p) for n, p in enumerate(pictures)))
    source = RecordingSource(uri(path), realtime=True, clock=clock)
    assert source.live
    assert len(list(source.frames())) == 10
    assert sum(clock.slept_s) == pytest.approx(0.9)


def compressed(n: int, bgr: np.ndarray, suffix: str, name: str) -> dict[str, object]:
    data = cv2.imencode(suffix, bgr)[1].tobytes()
    return {"header": header(n), "format": name, "data": data}


def test_compressed_images_are_decoded(tmp_path, pictures):
    depth = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 8
    messages = [
        compressed(0, pictures[0][:, :, ::-1], ".png", "rgb8; png compressed bgr8"),
        compressed(1, pictures[1][:, :, ::-1], ".jpg", "jpeg"),
        compressed(2, depth, ".png", "16UC1; compressedDepth png"),
        {"header": header(3), "format": "jpeg", "data": b"no picture at all"},
    ]
    messages[2]["data"] = bytes(12) + messages[2]["data"]
    path = write(tmp_path / "a.mcap", messages)
    items = list(RecordingSource(uri(path)).frames())
    png, jpeg, deep = frames_of(items)
    np.testing.assert_array_equal(png.pixels.rgb(), pictures[0])
    assert np.abs(jpeg.pixels.rgb().astype(int) - pictures[1]).mean() < 20
    shown = deep.pixels.luma().astype(int)
    assert shown.shape == (30, 40)
    assert shown[0, 0] == 0
    assert (np.diff(shown.ravel()[1:]) <= 0).all()
    (bad,) = [i for i in items if isinstance(i, BadFrame)]
    assert f"{TOPIC}, message 3" in bad.reason
    assert "'jpeg' cannot be decoded" in bad.reason


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"step": 10}, "step of 10"),
        ({"height": 31}, "needs? .*rows of 120 bytes"),
        ({"width": 0}, "0x30 pixels is empty"),
        ({"data": b""}, "0 bytes"),
        ({"encoding": "rgb9"}, "unknown encoding 'rgb9'; known are rgb8"),
        ({"encoding": ""}, "unknown encoding ''"),
        ({"encoding": "nv12", "width": 39}, "odd"),
        ({"width": 2**31, "height": 2**31}, "too large"),
    ],
)
def test_a_message_that_is_no_picture_is_named_and_the_stream_goes_on(
    tmp_path, pictures, changes, problem
):
    messages = [image(n, p) for n, p in enumerate(pictures[:3])]
    messages[1] = image(1, pictures[1], **changes)
    path = write(tmp_path / "a.mcap", messages)
    items = list(RecordingSource(uri(path)).frames())
    assert [type(i) for i in items] == [Frame, BadFrame, Frame]
    assert [i.index for i in items] == [0, 1, 2]
    assert items[1].reason.startswith(f"{TOPIC}, message 1: ")
    assert __import__("re").search(problem, items[1].reason)
    assert "\n" not in items[1].reason


def test_another_size_on_the_way_is_reported(tmp_path, pictures):
    larger = picture(0, (80, 60))
    path = write(tmp_path / "a.mcap", [image(0, pictures[0]), image(1, larger)])
    items = list(RecordingSource(uri(path)).frames())
    assert [type(i) for i in items] == [Frame, SourceFault, Frame]
    assert "80x60 rgb8 after 40x30 rgb8" in items[1].message


def test_a_topic_that_is_not_there_lists_those_that_are(tmp_path, pictures):
    path = write(tmp_path / "a.mcap", [image(0, pictures[0])])
    with pytest.raises(SourceUnavailable, match=f"no topic /nope; topics with images: {TOPIC}"):
        RecordingSource(uri(path, topic="/nope"))
    with pytest.raises(SourceUnavailable, match=r"/words holds std_msgs/msg/String, not images"):
        RecordingSource(uri(path, topic="/words"))
    path.write_bytes(path.read_bytes()[:-40])  # no index: known when it has been read
    items = RecordingSource(uri(path, topic="/nope")).frames()
    with pytest.raises(SourceError, match=rf"no topic /nope; topics: {TOPIC} \(sensor_msgs"):
        list(items)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("mcap:", "a recording is mcap:PATH"), ("mcap:a.mcap?topc=/x", "a recording is mcap:PATH"),
     ("mcap:a.mcap?topic=", "a recording is"), ("rosbag2:?topic=/x", "a recording is rosbag2:")],
)  # fmt: skip
def test_other_forms_are_refused(text, problem):
    with pytest.raises(ConfigError, match=problem):
        open_source(text)


def test_what_is_no_recording_is_unavailable(tmp_path):
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "text.mcap").write_text("hello world\n" * 20)
    for name, problem in {
        "empty.mcap": r"is empty \(0 bytes\)",
        "text.mcap": "is no MCAP file",
        "gone.mcap": "cannot be read: No such file",
        ".": "cannot be read: Is a directory",
    }.items():
        with pytest.raises(SourceUnavailable, match=problem):
            RecordingSource(f"mcap:{tmp_path / name}")


def many(tmp_path, count=40, compression=CompressionType.ZSTD):
    """A log of many small chunks, and where each chunk lies."""
    shots = [picture(n, (40, 30)) for n in range(count)]
    path = write(tmp_path / "a.mcap", (image(n, p) for n, p in enumerate(shots)),
                 chunk_size=8000, compression=compression, text=False)  # fmt: skip
    data, at, chunks = path.read_bytes(), 8, []
    while at < len(data) - 8:
        length = int.from_bytes(data[at + 1 : at + 9], "little")
        if data[at] == 6:
            chunks.append((at, length))
        at += 9 + length
    assert len(chunks) >= 5
    return path, shots, chunks


def same(frames, shots):
    numbers = [round((f.captured_ns / 1e9) - 1_600_000_000.25) for f in frames]
    for frame, number in zip(frames, numbers, strict=True):
        np.testing.assert_array_equal(frame.pixels.rgb(), shots[number])
    assert numbers == sorted(set(numbers))
    return numbers


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


# ---- bags -------------------------------------------------------------------------------


def bag(folder: Path, shots, storage=StoragePlugin.SQLITE3) -> Path:
    store = get_typestore(Stores.ROS2_HUMBLE)
    image_type = store.types["sensor_msgs/msg/Image"]
    text_type = store.types["std_msgs/msg/String"]
    stamp = store.types["builtin_interfaces/msg/Time"]
    head = store.types["std_msgs/msg/Header"]
    with BagWriter(folder, version=9, storage_plugin=storage) as writer:
        images = writer.add_connection(TOPIC, image_type.__msgtype__, typestore=store)
        words = writer.add_connection("/words", text_type.__msgtype__, typestore=store)
        for n, rgb in enumerate(shots):
            message = image_type(
                header=head(stamp(sec=1_600_000_000 + n, nanosec=250_000_000), "front_left"),
                height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", is_bigendian=0,
                step=3 * rgb.shape[1], data=rgb.ravel(),
            )  # fmt: skip
            at = 1_700_000_000_000_000_000 + n * 100_000_000
            writer.write(images, at, store.serialize_cdr(message, image_type.__msgtype__))
            writer.write(words, at, store.serialize_cdr(text_type(f"{n}"), text_type.__msgtype__))
    return folder


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_bag_of_either_storage_is_read(tmp_path, pictures, storage):
    folder = bag(tmp_path / "bag", pictures, storage)
    source = open_source(uri(folder, "rosbag2"))
    frames = list(source.frames())
    assert same(frames, pictures) == list(range(10))
    assert [f.media_s for f in frames] == pytest.approx([n / 10 for n in range(10)])
    assert {(f.clock, f.frame_id) for f in frames} == {("header", "front_left")}
    with pytest.raises(SourceUnavailable, match=f"no topic /nope; topics with images: {TOPIC}"):
        open_source(uri(folder, "rosbag2", "/nope"))


def test_a_bag_without_its_metadata_is_read_and_said(tmp_path, pictures):
    folder = bag(tmp_path / "bag", pictures)
    (folder / "metadata.yaml").unlink()
    items = list(RecordingSource(uri(folder, "rosbag2")).frames())
    assert same(frames_of(items), pictures) == list(range(10))
    ((code, message),) = faults_of(items)
    assert code == "damaged"
    assert "metadata.yaml cannot be read" in message


def test_metadata_that_unfolds_without_end_is_not_unfolded(tmp_path, pictures):
    folder = bag(tmp_path / "bag", pictures)
    aliases = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        aliases.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
    text = "\n".join(aliases) + "\nrosbag2_bagfile_information:\n  relative_file_paths: [*a11]\n"
    (folder / "metadata.yaml").write_text(text)
    items = list(RecordingSource(uri(folder, "rosbag2")).frames())
    assert len(frames_of(items)) == 10
    assert "metadata.yaml cannot be read (TypeError)" in faults_of(items)[0][1]


def test_a_damaged_database_is_read_as_far_as_it_goes(tmp_path):
    shots = [picture(n, (40, 30)) for n in range(30)]
    folder = bag(tmp_path / "bag", shots)
    (file,) = folder.glob("*.db3")
    data = bytearray(file.read_bytes())
    half = len(data) * 6 // 10 // 4096 * 4096
    data[half:] = bytes(len(data) - half)
    file.write_bytes(data)
    items = list(RecordingSource(uri(folder, "rosbag2")).frames())
    assert len(same(frames_of(items), shots)) >= 5
    assert any("cannot be read on after" in m for _, m in faults_of(items))


def test_a_file_that_is_missing_from_a_bag_is_said(tmp_path, pictures):
    folder = bag(tmp_path / "bag", pictures)
    text = (folder / "metadata.yaml").read_text()
    (file,) = folder.glob("*.db3")
    assert file.name in text
    (folder / "metadata.yaml").write_text(
        text.replace(f"- {file.name}", f"- {file.name}\n  - bag_1.db3", 1)
    )
    items = list(RecordingSource(uri(folder, "rosbag2")).frames())
    assert len(frames_of(items)) == 10
    assert any("lacks bag_1.db3" in m for _, m in faults_of(items))


def test_what_is_no_bag_is_unavailable(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "bag_0.db3.zstd").touch()
    (tmp_path / "file").touch()
    for name, problem in {
        "empty": "holds no .mcap or .db3 file",
        "packed": "unpack bag_0.db3.zstd with `zstd -d` first",
        "file": "is not a folder",
        "gone": "does not exist",
    }.items():
        with pytest.raises(SourceUnavailable, match=problem):
            RecordingSource(f"rosbag2:{tmp_path / name}")


def test_a_database_that_is_none_is_a_fault_and_then_an_error(tmp_path, collect):
    folder = tmp_path / "bag"
    folder.mkdir()
    (folder / "bag_0.db3").write_bytes(b"not a database" * 100)
    items, error = collect(RecordingSource(uri(folder, "rosbag2")))
    assert any("file is not a database" in m for _, m in faults_of(items))
    assert "it holds no topic" in str(error)


def test_a_log_of_another_encoding_is_named(tmp_path, collect):
    path = tmp_path / "a.mcap"
    with path.open("wb") as out:
        writer = Writer(out)
        writer.start()
        schema = writer.register_schema("sensor_msgs/msg/Image", "jsonschema", b"{}")
        channel = writer.register_channel(TOPIC, "json", schema)
        writer.add_message(channel, 1, b"{}", 1, 7)
        writer.finish()
    items, error = collect(RecordingSource(uri(path)))
    assert "message 7: its encoding is 'json'; cdr and ros1 can be read" in items[0].reason
    assert isinstance(error, SourceError)


def test_without_the_readers_the_remedy_is_named(tmp_path, monkeypatch, pictures):
    path = write(tmp_path / "a.mcap", [image(0, pictures[0])])
    for name in ("mcap.stream_reader", "rosbags.typesys"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, name, None)
            with pytest.raises(SourceUnavailable, match=r"pip install 'edgevlm\[ros\]'"):
                RecordingSource(uri(path))


def test_ros_1_messages_in_mcap_are_read(tmp_path, pictures):
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "sensor_msgs/msg/Image"
    head = store.types["std_msgs/msg/Header"]
    stamp = store.types["builtin_interfaces/msg/Time"](sec=1_600_000_000, nanosec=250_000_000)
    message = store.types[kind](
        header=head(seq=1, stamp=stamp, frame_id="front_left"), height=30, width=40,
        encoding="rgb8", is_bigendian=0, step=120, data=pictures[0].ravel(),
    )  # fmt: skip
    path = tmp_path / "a.mcap"
    with path.open("wb") as out:
        writer = Writer(out)
        writer.start()
        schema = writer.register_schema("sensor_msgs/Image", "ros1msg", b"")
        channel = writer.register_channel(TOPIC, "ros1", schema)
        writer.add_message(channel, 5, bytes(store.serialize_ros1(message, kind)), 5)
        writer.finish()
    (frame,) = RecordingSource(uri(path)).frames()
    np.testing.assert_array_equal(frame.pixels.rgb(), pictures[0])
    assert frame.frame_id == "front_left"
