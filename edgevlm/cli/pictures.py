"""Pictures of a command line: files, and folders of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgevlm.errors import ConfigError, ImageError


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


def target_of(output: Path | None, paths: Sequence[Path]) -> Callable[[Path], Path]:
    """Where what is drawn on a picture goes: a file, or the picture's name in a folder.

    Raises:
        ConfigError: several pictures, and no folder for them.
    """
    if output is None:
        return lambda path: path
    if output.is_dir():
        return lambda path: output / f"{path.stem}.png"
    if len(paths) > 1:
        raise ConfigError(f"-o {output}: {len(paths)} pictures want a folder that is there")
    return lambda _: output
