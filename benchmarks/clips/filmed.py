"""Films a clip once, keeps the file in the cache, and reads its frames back."""

from __future__ import annotations

import hashlib
import os
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

_NO_PICTURES = ("__init__.py", "__main__.py", "catalogue.py", "filmed.py", "make_sample.py")


def filmed(clip: Clip) -> Path:
    """The clip's file, filmed if there is none yet by the code as it is."""
    folder = cache_folder() / "clips"
    target = folder / f"{clip.name}-{_made_by()}.mkv"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}.part")  # two may film at once
        try:
            clip.camera.record(clip.pictures(), clip.fps, unfinished)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
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
    """A hash of all code that a clip's pictures follow from."""
    here, data = Path(__file__).parent, Path(str(nano_data.__file__)).parent
    code = [file for file in here.glob("*.py") if file.name not in _NO_PICTURES]
    digest = hashlib.sha256(f"{version('av')} {version('pillow')} {version('numpy')}".encode())
    for file in sorted([*code, *data.glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
