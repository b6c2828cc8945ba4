"""Robot logs, written by mcap_ros2 and rosbags: messages, stamps and forms."""

from __future__ import annotations

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_typestore

from edgevlm.errors import ConfigError, SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame, SourceFault
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.sources.recording import RecordingSource
from tests.runtime.sources.conftest import picture
from tests.runtime.sources.ros_logs import (
    TOPIC,
    compressed,
    frames_of,
    header,
    image,
    uri,
    write,
)


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
