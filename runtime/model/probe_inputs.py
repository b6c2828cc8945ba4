"""Make the conversations of the parity probe: prompts and pictures as this runtime prepares them.

``python -m edgevlm.runtime.model.probe_inputs BUNDLE [PICTURES]`` writes them under ``probe/`` of
a staged bundle; the exporter then lets the source model answer them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle import Bundle, read_manifest
from edgevlm.bundle.probe_case import ProbeCase
from edgevlm.errors import EdgeVLMError
from edgevlm.runtime.model.check_pictures import pictures_of
from edgevlm.runtime.model.image import load_image
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.messages import conversation
from edgevlm.runtime.model.probe_encoder import write_encoder_inputs
from edgevlm.runtime.model.reader import Reader
from edgevlm.runtime.model.turn import Turn

UInt8 = NDArray[np.uint8]
QUESTION = "What is in this picture?"
HEIGHT, WIDTH = 203, 331  # odd on purpose: most sizes of a camera divide everything


def probe_picture(height: int, width: int) -> UInt8:
    """A drawn test picture, uint8 RGB: gradients, an edge, a disc and some texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / max(width - 1, 1), y / max(height - 1, 1)
    picture = np.stack([255 * u, 255 * v, 160 + 60 * np.sin(9 * u) * np.cos(7 * v)], -1)
    disc = (u - 0.4) ** 2 + (v - 0.55) ** 2 < 0.06
    picture[disc] = (235, 120, 30)
    picture[(u > 0.7) & (v < 0.5)] *= 0.35
    grain = np.random.default_rng(20).normal(0, 6, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def write_inputs(bundle: Bundle, pictures: Path | None) -> None:
    """Write the built-in case, and one for every picture of a folder.

    Raises:
        ImageError: a picture of the folder cannot be taken, or there is none.
    """
    root = bundle.root / "probe"
    own = [] if pictures is None else pictures_of(pictures)
    if "decoder" not in bundle.manifest.graphs:
        shown = [("picture", probe_picture(HEIGHT, WIDTH))]
        checks = [(f"check-{path.name}", path) for path in own]
        write_encoder_inputs(bundle, open_backend("ort-cpu", spin=False), [*shown, *checks])
        return
    reader = Reader(bundle, open_backend("ort-cpu", spin=False))
    try:
        if "vision" in bundle.manifest.graphs:
            _write(reader, ProbeCase(root / "picture"), [probe_picture(HEIGHT, WIDTH)])
        else:
            _write(reader, ProbeCase(root / "text"), [])
        for path in own:
            case = ProbeCase(root / f"check-{path.name}")
            _write(reader, case, [load_image(path)])
    finally:
        reader.close()


def _write(reader: Reader, case: ProbeCase, pictures: list[UInt8]) -> None:
    turn = Turn()
    reader.read(turn, conversation(pictures, QUESTION, None, None))
    case.save_question(QUESTION)
    for n, (picture, encoded) in enumerate(zip(pictures, turn.encoded, strict=True)):
        case.save(f"picture.{n}", picture)
        for m, tile in enumerate(encoded.pixels):
            case.save(f"pixels.{n}.{m}", tile)
    case.save("ids", np.array(reader.prompt_ids(turn), np.int64))


def main(arguments: list[str]) -> int:
    """Write the inputs; the last line of stderr says what went wrong."""
    root = Path(arguments[0])
    pictures = Path(arguments[1]) if len(arguments) > 1 else None
    try:
        write_inputs(Bundle(root, read_manifest(root)), pictures)
    except EdgeVLMError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
