"""Render the sample clip from photographs that ship inside scikit-image.

The clip alternates what an edge camera pipeline has to tell apart: stretches in
which nothing changes, slow camera motion, hard cuts and one cross-fade. Every
photograph is a file of the scikit-image wheel that scikit-image documents as CC0
or public domain (see ``configs/assets/README.md``); nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FPS = 12
WIDTH, HEIGHT = 960, 540
STILL_S, MOTION_S, FADE_S = 3.5, 1.5, 2.0
REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_OUTPUT = REPOSITORY / "configs" / "assets" / "sample.mp4"

Window = tuple[float, float, float]
"""Left, top and width of a 16:9 crop, in source pixels."""
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """One photograph and the camera path over it.

    Attributes:
        subject: Name of the photograph in the timeline.
        file: File name in scikit-image's data directory.
        start: Crop shown while the picture is still.
        end: Crop reached at the end of the motion.
        fade_in: Cross-fade from the previous shot instead of a hard cut.
    """

    subject: str
    file: str
    start: Window
    end: Window
    fade_in: bool = False


@dataclass(frozen=True)
class Segment:
    """One row of the timeline; ``cut`` rows are instants (start equals end).

    Attributes:
        start_s: Time of the first frame of the segment.
        end_s: Time of the first frame after the segment.
        subject: The photograph shown, ``a+b`` during a fade, the new one at a cut.
        kind: One of ``still``, ``motion``, ``cut`` and ``fade``.
    """

    start_s: float
    end_s: float
    subject: str
    kind: str


SHOTS = (
    Shot("chelsea", "chelsea.png", (0, 30, 451), (50, 52, 385)),
    Shot("coffee", "coffee.png", (0, 8, 600), (24, 10, 515)),
    Shot("rocket", "rocket.jpg", (30, 104, 570), (0, 64, 640)),
    Shot("astronaut", "astronaut.png", (0, 12, 478), (34, 14, 478), fade_in=True),
    Shot("camera", "camera.png", (15, 40, 430), (0, 52, 512)),
    Shot("hubble_deep_field", "hubble_deep_field.jpg", (20, 100, 960), (120, 190, 840)),
)


def load_photograph(name: str) -> Image.Image:
    """Open a photograph bundled with scikit-image.

    Args:
        name: File name in scikit-image's data directory.

    Returns:
        The photograph in RGB.
    """
    with (files("skimage") / "data" / name).open("rb") as stream:
        return Image.open(stream).convert("RGB")


def render(photo: Image.Image, window: Window) -> Frame:
    """Resample a crop to the size of the clip with sub-pixel accuracy.

    Args:
        photo: The source photograph.
        window: The crop to show.

    Returns:
        An RGB frame of shape ``(HEIGHT, WIDTH, 3)``.

    Raises:
        ValueError: The crop reaches outside the photograph.
    """
    left, top, width = window
    scale = width / WIDTH
    right, bottom = left + width, top + scale * HEIGHT
    if min(left, top) < 0 or right > photo.width or bottom > photo.height:
        raise ValueError(f"crop {window} does not fit a photograph of {photo.size}")
    matrix = (scale, 0.0, left, 0.0, scale, top)
    moved = photo.transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return np.asarray(moved, dtype=np.uint8)


def interpolate(start: Window, end: Window, t: float) -> Window:
    """Return the crop at fraction ``t`` of a camera path of constant speed."""
    left, top, width = ((1.0 - t) * a + t * b for a, b in zip(start, end, strict=True))
    return left, top, width


def compose() -> Iterator[tuple[str, str, list[Frame]]]:
    """Yield the clip as (subject, kind, frames); a cut has no frames."""
    previous: tuple[str, Frame] | None = None
    for shot in SHOTS:
        photo = load_photograph(shot.file)
        first = render(photo, shot.start)
        if previous is not None and shot.fade_in:
            name, last = previous
            count = round(FADE_S * FPS)
            weights = [(i + 1) / (count + 1) for i in range(count)]
            mixed = [np.rint((1.0 - w) * last + w * first) for w in weights]
            frames = [frame.astype(np.uint8) for frame in mixed]
            yield f"{name}+{shot.subject}", "fade", frames
        elif previous is not None:
            yield shot.subject, "cut", []
        yield shot.subject, "still", [first] * round(STILL_S * FPS)
        count = round(MOTION_S * FPS)
        times = [(i + 1) / count for i in range(count)]
        path = [interpolate(shot.start, shot.end, t) for t in times]
        moving = [render(photo, window) for window in path]
        yield shot.subject, "motion", moving
        previous = (shot.subject, moving[-1])


def encode(output: Path, crf: int) -> list[Segment]:
    """Write the clip as H.264 and return its timeline.

    Args:
        output: Path of the MP4 file.
        crf: Constant rate factor of libx264.

    Returns:
        The segments in playing order.
    """
    segments: list[Segment] = []
    total = 0
    container_options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(output), "w", options=container_options) as container:
        options = {"crf": str(crf), "preset": "slow", "g": str(2 * FPS), "threads": "1"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for subject, kind, frames in compose():
            start_s, end_s = total / FPS, (total + len(frames)) / FPS
            segments.append(Segment(start_s, end_s, subject, kind))
            for array in frames:
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.pts, frame.time_base = total, Fraction(1, FPS)
                container.mux(stream.encode(frame))
                total += 1
        container.mux(stream.encode(None))
    return segments


def main() -> None:
    """Render the clip, write its timeline beside it and print the timeline."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--crf", type=int, default=26, help="of libx264")
    args = parser.parse_args()
    segments = encode(args.output, args.crf)
    rows = ",\n".join(f"    {json.dumps(asdict(segment))}" for segment in segments)
    text = f'{{\n  "fps": {FPS},\n  "segments": [\n{rows}\n  ]\n}}\n'
    args.output.with_suffix(".timeline.json").write_text(text, encoding="utf-8")
    print("| start s | end s | photograph | kind |\n| ---: | ---: | --- | --- |")
    for s in segments:
        print(f"| {s.start_s:.1f} | {s.end_s:.1f} | {s.subject} | {s.kind} |")


if __name__ == "__main__":
    main()
