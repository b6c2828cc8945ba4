"""Find the pictures of a folder, and say of the first one that cannot be taken why.

``python -m edgevlm.runtime.model.check_pictures FOLDER``: the exporter asks before its work starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgevlm.errors import EdgeVLMError, ImageError
from edgevlm.runtime.model.image import SUFFIXES, load_image


def pictures_of(folder: Path) -> list[Path]:
    """Every picture of a folder, by name.

    Raises:
        ImageError: no such folder, or no picture in it.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not folder.is_dir() or not found:
        what = "there is no picture" if folder.is_dir() else "no such folder"
        raise ImageError(f"--check-images {folder}: {what} ({', '.join(sorted(SUFFIXES))})")
    return found


def main(arguments: list[str]) -> int:
    """Decode every picture; the last line of stderr says what went wrong."""
    try:
        for path in pictures_of(Path(arguments[0])):
            load_image(path)
    except EdgeVLMError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
