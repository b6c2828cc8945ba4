"""Files for the fault run: clips and a log, each damaged in places that the seed chooses."""

from __future__ import annotations

import random
from pathlib import Path

import av
import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap_ros2.writer import Writer
from numpy.typing import NDArray

SIZE_WH = (160, 120)
TOPIC = "/camera/image"
SCENE = 20  # frames
DAMAGE = 0.004  # of the packets of a file, and of the chunks of a log
BAD_STEP = 0.01  # of the messages of a log
_IMAGE = """std_msgs/Header header
uint32 height
uint32 width
string encoding
uint8 is_bigendian
uint32 step
uint8[] data
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""


def scene(number: int, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A coarse picture that another number changes thoroughly; uint8 RGB."""
    rng = np.random.default_rng(number)
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    large: NDArray[np.uint8] = cv2.resize(small, size_wh, interpolation=cv2.INTER_NEAREST)
    return large


def clip(path: Path, frames: int, fps: int) -> Path:
    """H.264 with a key frame every half second and no reordering."""
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "bf": "0", "g": str(max(2, fps // 2))}
        stream = out.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        for n in range(frames):
            picture = av.VideoFrame.from_ndarray(scene(n // SCENE, SIZE_WH), format="rgb24")
            picture.pts = n
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def damaged_clip(path: Path, frames: int, fps: int, rng: random.Random) -> Path:
    """The same with some coded pictures spoiled."""
    clip(path, frames, fps)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos]
    data = bytearray(path.read_bytes())
    for at, size in places[1:]:
        if rng.random() < DAMAGE and size > 12:
            for _ in range(3):
                data[at + rng.randrange(8, size)] ^= 0x5A
    path.write_bytes(data)
    return path


def damaged_log(path: Path, frames: int, fps: int, rng: random.Random) -> Path:
    """An MCAP file with messages that do not fit their step, and chunks that fail their check."""
    width, height = SIZE_WH[0] // 2, SIZE_WH[1] // 2
    with path.open("wb") as out:
        writer = Writer(out, chunk_size=1 << 18, compression=CompressionType.NONE)
        schema = writer.register_msgdef("sensor_msgs/msg/Image", _IMAGE)
        for n in range(frames):
            at_ns = 1_700_000_000_000_000_000 + n * 1_000_000_000 // fps
            stamp = {"sec": at_ns // 1_000_000_000, "nanosec": at_ns % 1_000_000_000}
            step = 3 * width - (7 if rng.random() < BAD_STEP else 0)
            message = {
                "header": {"stamp": stamp, "frame_id": "front"},
                "height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0,
                "step": step, "data": scene(1000 + n // SCENE, (width, height)).tobytes(),
            }  # fmt: skip
            writer.write_message(TOPIC, schema, message, at_ns, at_ns, n)
        writer.finish()  # type: ignore[no-untyped-call]
    data = bytearray(path.read_bytes())
    for _ in range(max(1, round(frames * DAMAGE / 10))):
        at = rng.randrange(len(data) // 8, len(data) - len(data) // 8)
        data[at] ^= 0x5A
    path.write_bytes(data)
    return path
