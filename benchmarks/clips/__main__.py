"""``python -m benchmarks.clips`` lists the labelled clips; ``--sheet FILE.png`` draws them.

``--labels FILE.json`` writes frame, time, kind and box of every change, and ``--film`` films the
clips of a role into the cache.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.clips.catalogue import FIXED_CAMERA, clip, names
from benchmarks.clips.clip import Clip
from benchmarks.clips.filmed import filmed, frames

WIDTH, HEIGHT, COLUMNS, EACH = 240, 136, 6, 6


def strip(of: Clip) -> Image.Image:
    """A row of a contact sheet: frames that show a change, its box in red, as the camera saw it."""
    step = max(1, len(of.changes) // EACH)
    chosen = {c.frame: c for c in of.changes[step // 2 :: step][:EACH]} or dict.fromkeys(
        range(0, of.count, of.count // EACH)
    )
    row = Image.new("RGB", (COLUMNS * WIDTH, HEIGHT + 16), "white")
    pen = ImageDraw.Draw(row)
    shown = (f for f in frames(of) if f.index in chosen)
    for n, frame in enumerate(islice(shown, EACH)):
        picture = Image.fromarray(frame.pixels.rgb())
        scale_x, scale_y = (WIDTH - 4) / picture.width, (HEIGHT - 2) / picture.height
        row.paste(picture.resize((WIDTH - 4, HEIGHT - 2)), (n * WIDTH, 0))
        change = chosen[frame.index]
        if change is not None:
            x0, y0, x1, y1 = change.box_xyxy
            box = (x0 * scale_x, y0 * scale_y, x1 * scale_x - 1, y1 * scale_y - 1)
            pen.rectangle((n * WIDTH + box[0], box[1], n * WIDTH + box[2], box[3]), outline="red")
        what = "" if change is None else f", {change.kind}"
        pen.text((n * WIDTH + 2, HEIGHT), f"{of.name} {frame.index}{what}", fill="black")
    return row


def labels(of: Clip) -> list[dict[str, object]]:
    """Every change as plain data, with its time in seconds."""
    return [{"time_s": round(c.frame / of.fps, 3), **asdict(c)} for c in of.changes]


def main() -> None:
    """Print the list and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("tune", "judge"))
    parser.add_argument("--clip", action="append", choices=(*names(), FIXED_CAMERA), metavar="NAME")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--film", action="store_true")
    chosen = parser.parse_args()
    rows, listed, changes = [], {}, 0
    apart = [] if chosen.role == "tune" else [FIXED_CAMERA]
    for name in chosen.clip or [*names(chosen.role), *apart]:
        of = clip(name)
        took = ""
        if chosen.film:
            begun = time.process_time()
            size = filmed(of).stat().st_size
            took = f", {size / 1e6:.1f} MB, {time.process_time() - begun:.0f} s"
        seconds, found = of.count / of.fps, len(of.changes)
        print(f"{name:14} {found:3} changes in {seconds:5.1f} s{took}: {of.what}", flush=True)
        changes += found
        listed[name] = labels(of)
        if chosen.sheet:
            rows.append(strip(of))
    print(f"{changes} changes in all")
    if chosen.labels:
        chosen.labels.write_text(json.dumps(listed, indent=1) + "\n", "utf-8")
    if chosen.sheet:
        whole = Image.new("RGB", (rows[0].width, sum(r.height for r in rows)), "white")
        for n, row in enumerate(rows):
            whole.paste(row, (0, n * row.height))
        whole.save(chosen.sheet)


if __name__ == "__main__":
    main()
