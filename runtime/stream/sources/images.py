"""Still images as a stream: a folder, a glob pattern or a single file."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from edgevlm.errors import ConfigError, ImageError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.model.image import SUFFIXES, load_image
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Pace, arrived
from edgevlm.runtime.stream.sources.pixels import CvPixels


class ImageSource:
    """Images in natural order: ``shot9.png`` comes before ``shot10.png``.

    An image that cannot be decoded, or is gone when its turn comes, becomes a BadFrame.

    Args:
        pattern: a folder (its images, not those of folders inside), a glob pattern (``**`` goes
            into folders), or one file.
        realtime: deliver ``fps`` images a second, as a live source does.
        clock: stamps frames and is waited on for the pace.
        fps: images a second, for positions and pace.

    Raises:
        ConfigError: ``fps`` is not positive.
        SourceUnavailable: no image is there.
    """

    def __init__(
        self,
        pattern: str | Path,
        realtime: bool = False,
        clock: Clock = SYSTEM,
        fps: float = 1.0,
    ) -> None:
        if not fps > 0:
            raise ConfigError(f"fps must be positive, got {fps}")
        self.name = str(pattern)
        self.live = realtime
        self._clock = clock
        self._fps = fps
        self._closed = False
        self._paths = _find(self.name)

    def frames(self) -> Iterator[Frame | BadFrame]:
        """Yield the images in order."""
        pace = Pace(self._clock, lambda: self._closed)
        for index, path in enumerate(self._paths):
            media_s = index / self._fps
            if self._closed or (self.live and not pace.wait(media_s)):
                return
            try:
                image = load_image(path)
            except (ImageError, OSError) as exc:
                yield BadFrame(index=index, reason=str(exc))
            else:
                yield arrived(self._clock, index, CvPixels(image, "rgb"), media_s)

    def close(self) -> None:
        """End ``frames``."""
        self._closed = True


def natural_key(path: Path) -> tuple[list[list[tuple[int, int | str]]], str]:
    """Sort key under which numbers inside names count as numbers, and case hardly."""
    names = [*path.parent.parts, path.stem, path.suffix]
    parts = [
        [(0, int(p)) if p.isdecimal() else (1, p.lower()) for p in re.split("([0-9]+)", name)]
        for name in names
    ]
    return parts, str(path)


def _find(pattern: str) -> list[Path]:
    root = Path(pattern)
    try:
        if root.is_file():
            return [root]
        if root.is_dir():
            candidates = list(root.iterdir())
        elif glob.has_magic(pattern):
            candidates = [Path(p) for p in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        else:
            raise SourceUnavailable(f"{pattern} does not exist")
        found = [p for p in candidates if p.suffix.lower() in SUFFIXES and p.is_file()]
    except OSError as exc:
        raise SourceUnavailable(f"{pattern} cannot be read: {exc.strerror}") from exc
    if not found:
        raise SourceUnavailable(f"{pattern} holds no image ({' '.join(sorted(SUFFIXES))})")
    return sorted(found, key=natural_key)
