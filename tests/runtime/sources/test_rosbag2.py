"""Bags of either storage, written by rosbags, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as BagWriter
from rosbags.typesys import Stores, get_typestore

from edgevlm.errors import SourceUnavailable
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.sources.recording import RecordingSource
from tests.runtime.sources.conftest import picture
from tests.runtime.sources.ros_logs import (
    TOPIC,
    faults_of,
    frames_of,
    same,
    uri,
)

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
