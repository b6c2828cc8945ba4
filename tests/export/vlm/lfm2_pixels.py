"""What transformers' own LFM2-VL image processor makes of pictures; run with the oracles.

``python -m tests.export.vlm.lfm2_pixels SETTINGS.json PICTURES.npz OUT.npz``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> None:
    """Write flat patches in grey levels, masks, grids and tiles of every picture and setting."""
    from PIL import Image
    from transformers import Lfm2VlImageProcessor

    settings, pictures, out = map(Path, arguments)
    results: dict[str, np.ndarray] = {}
    for kind, chosen in json.loads(settings.read_text()).items():
        processor = Lfm2VlImageProcessor(**chosen)
        for name, picture in np.load(pictures).items():
            made = processor(
                [Image.fromarray(picture)], return_tensors="np", return_row_col_info=True
            )
            grey = made["pixel_values"] * 127.5 + 127.5
            made["pixel_values"] = np.round(grey).astype(np.uint8)
            results |= {f"{kind}.{name}.{key}": np.asarray(v) for key, v in made.items()}
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1:])
