"""Pictures of a command line: files, and folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevlm.errors import ImageError


def pictures(paths: Sequence[Path]) -> list[Path]:
    """Files as they come, and the pictures of folders by name.

    Raises:
        ImageError: a folder without a picture.
    """
    from edgevlm.runtime.model.image import SUFFIXES

    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise ImageError(
                f"{path} holds no picture; known endings: {' '.join(sorted(SUFFIXES))}"
            )
        found += inside
    return found
