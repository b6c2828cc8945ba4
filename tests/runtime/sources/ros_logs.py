"""Robot logs to read: messages, and the files that mcap_ros2 writes of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap_ros2.writer import Writer as RosWriter

from edgevlm.frame import Frame, SourceFault
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


def compressed(n: int, bgr: np.ndarray, suffix: str, name: str) -> dict[str, object]:
    data = cv2.imencode(suffix, bgr)[1].tobytes()
    return {"header": header(n), "format": name, "data": data}


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
