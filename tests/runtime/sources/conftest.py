"""What the tests of the sources share: a clock, encoded clips, the skip for missing packages."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import av
import numpy as np
import pytest

from edgevlm.errors import SourceError
from edgevlm.frame import BadFrame, Frame, FrameSource


class FakeClock:
    """A clock that only ``sleep`` moves; ``on_sleep`` is called before each one."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000
        self.slept_s: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.on_sleep()
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


def picture(number: int, size_wh: tuple[int, int]) -> np.ndarray:
    """A coarse pattern that shifts by 3 pixels a frame."""
    width, height = size_wh
    rng = np.random.default_rng(7)
    blocks = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    whole = np.kron(blocks, np.ones((8, 8, 1), np.uint8))[:height, :width]
    return np.roll(whole, 3 * number, axis=1)


def encode(
    path: Path,
    frames: int = 20,
    *,
    size_wh: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    stamps: list[int] | None = None,
) -> Path:
    """Encode a clip; ``stamps`` are presentation times in units of 1/fps."""
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size_wh, pix_fmt
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, size_wh), format="rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = stamps[i] if stamps else i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a, b, c, d of a display matrix into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0, "track header version 0"
    a, b, c, d = (n << 16 for n in matrix)
    data[at + 40 : at + 76] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames of H.264 at 25 a second, 160x120."""
    return encode(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(name="encode", scope="session")
def _encode() -> Callable[..., Path]:
    return encode


@pytest.fixture(name="turn", scope="session")
def _turn() -> Callable[..., None]:
    return turn


@pytest.fixture
def collect() -> Callable[..., tuple[list[Frame | BadFrame], SourceError | None]]:
    """Reads a source to its end or its error, and gives both."""

    def read(source: FrameSource) -> tuple[list[Frame | BadFrame], SourceError | None]:
        items: list[Frame | BadFrame] = []
        try:
            for item in source.frames():
                items.append(item)
        except SourceError as error:
            return items, error
        return items, None

    return read


@pytest.fixture
def require() -> Callable[[str], NoReturn]:
    """Skip for the reason given, or fail where EDGEVLM_REQUIRE_ALL=1 says nothing may skip."""

    def missing(reason: str) -> NoReturn:
        if os.environ.get("EDGEVLM_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return missing


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 "
        "-subj /CN=camera -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        return None
    return folder


@pytest.fixture(autouse=True)
def _no_descriptor_leak() -> Iterator[None]:
    """A test that leaves descriptors open fails, where the system counts them."""
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir())) if folder.is_dir() else 0
    yield
    after = len(list(folder.iterdir())) if folder.is_dir() else 0
    assert after <= before + 1


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Ten pictures of 40 x 30."""
    return [picture(n, (40, 30)) for n in range(10)]
