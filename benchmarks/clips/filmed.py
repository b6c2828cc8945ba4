"""Films a clip once, keeps the file in the cache, and reads its frames back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import av

from benchmarks.clips.clip import Clip
from edgevlm.bundle.cache import cache_folder
from edgevlm.export import nano_data
from edgevlm.frame import Frame
from edgevlm.runtime.stream.sources.pixels import Orientation, VideoPixels


def filmed(clip: Clip) -> Path:
    """The clip's file; filmed anew when the code that makes clips has changed."""
    folder = cache_folder() / "clips"
    target = folder / f"{clip.name}-{_made_by()}.mkv"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{clip.name}-*.mkv"):
            old.unlink()
        unfinished = target.with_suffix(".part")
        clip.camera.record(clip.pictures(), clip.fps, unfinished)
        unfinished.replace(target)
    return target


def frames(clip: Clip) -> Iterator[Frame]:
    """The decoded frames, with the times that they were filmed at."""
    orientation = Orientation()
    with av.open(str(filmed(clip))) as container:
        for index, picture in enumerate(container.decode(video=0)):
            at_ns = round(index / clip.fps * 1e9)
            yield Frame(
                index=index,
                pixels=VideoPixels(picture, orientation.of(picture)),
                captured_ns=at_ns,
                monotonic_ns=at_ns,
                media_s=index / clip.fps,
                clock="pts",
            )


@lru_cache(maxsize=1)
def _made_by() -> str:
    """A hash of all code that a clip follows from."""
    here, data = Path(__file__).parent, Path(str(nano_data.__file__)).parent
    digest = hashlib.sha256(f"{version('av')} {version('pillow')} {version('numpy')}".encode())
    for file in sorted([*here.glob("*.py"), *data.glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
