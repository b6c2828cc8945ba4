"""What pictures become in a decoder's prompt: rows that its weights can be calibrated on.

``python -m edgevlm.runtime.model.visual_rows BUNDLE FOLDER [PICTURES]`` runs the drawn pictures of
the probe, and those of a folder, through the vision graph of a staged bundle and writes
``FOLDER/N.npy``, float32 ``(rows, hidden_size)``. The exporter runs it as a child process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle, read_manifest
from edgevlm.errors import EdgeVLMError
from edgevlm.runtime.model.check_pictures import pictures_of
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.probe_inputs import probe_picture
from edgevlm.runtime.model.vision import VisionEncoder

DRAWN = ((203, 331), (480, 360), (256, 256))  # height and width
MOST_PICTURES = 8  # of the user's own
MOST_ROWS = 256  # of one picture


def main(arguments: list[str]) -> int:
    """Write the rows; the last line of stderr says what went wrong."""
    root, folder = Path(arguments[0]), Path(arguments[1])
    try:
        pictures = [probe_picture(height, width) for height, width in DRAWN]
        if len(arguments) > 2:
            own = pictures_of(Path(arguments[2]))[:MOST_PICTURES]
            pictures += [load_image(path) for path in own]
        bundle = Bundle(root, read_manifest(root))
        encoder = VisionEncoder(bundle, open_backend("ort-cpu", spin=False))
        for number, picture in enumerate(pictures):
            rows = encoder.encode(picture).tokens
            chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).round()
            np.save(folder / f"{number}.npy", rows[chosen.astype(np.int64)], allow_pickle=False)
        encoder.close()
    except EdgeVLMError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
