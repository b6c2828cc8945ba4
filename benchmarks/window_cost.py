"""What a window of time costs against one frame, for the same model and the same frames.

``python -m benchmarks.window_cost BUNDLE [VIDEO]`` asks about frames of a video (the sample clip),
in turn: each frame alone; with the four before it under a budget of twice one frame; with the four
before it whole; and in a session, where every frame stays in the KV cache. Frames are encoded once
in all four. It prints medians over the frames behind the first four: of the time that passed, and
of the processor time that the process used, which a busy machine distorts less.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from edgevlm.answer import Answer
from edgevlm.config import WindowSection
from edgevlm.frame import Frame
from edgevlm.runtime.model.fewer_rows import row_count
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.window import Window

SAMPLE = Path(__file__).parent.parent / "configs" / "assets" / "sample.mp4"
QUESTION = "What happened?"
FRAMES, STEP, SHOWN, TOKENS = 14, 8, 5, 8


@dataclass(slots=True)
class Costs:
    """Of one way to ask, a value a frame."""

    whole_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    visual: list[int] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)

    def add(self, answer: Answer, begun: tuple[float, float]) -> None:
        """An answer that was begun at ``begun``, as ``_now`` gave it."""
        passed, used = (1e3 * (n - b) for n, b in zip(_now(), begun, strict=True))
        self.whole_ms.append(passed)
        self.cpu_ms.append(used)
        self.visual.append(answer.tokens.visual)
        self.prompt.append(answer.tokens.prompt)


def frames_of(video: Path) -> list[Frame]:
    """Every ``STEP``-th frame."""
    source = open_source(str(video))
    try:
        found = (item for item in source.frames() if isinstance(item, Frame))
        return list(islice(found, 0, FRAMES * STEP, STEP))
    finally:
        source.close()


def measured(model: Vlm, frames: Sequence[Frame]) -> dict[str, Costs]:
    """Ask in four ways about every frame."""
    one = row_count(model.encode(frames[0].pixels.rgb(), 2))
    seconds = float(len(frames))
    windows = {
        "one frame": Window(WindowSection(seconds=seconds, frames=1), QUESTION),
        f"{SHOWN} frames, twice the tokens": Window(
            WindowSection(seconds=seconds, frames=SHOWN, tokens=2 * one), QUESTION
        ),
        f"{SHOWN} frames, whole": Window(
            WindowSection(seconds=seconds, frames=SHOWN, tokens=SHOWN * one), QUESTION
        ),
    }
    costs = {name: Costs() for name in windows}
    for number, frame in enumerate(frames):
        for name, window in windows.items():
            begun = _now()
            encoded = model.encode(frame.pixels.rgb(), 2)
            asked = window.ask(model, number, encoded, float(number))
            answer = asked.ask(max_tokens=TOKENS)
            if number >= SHOWN - 1:
                costs[name].add(answer, begun)
            window.keep()
    costs["in a session"] = Costs()
    session = model.session(vision_tokens=model.bundle.manifest.language[1].capacity // 2)
    for number, frame in enumerate(frames):
        begun = _now()
        session.see(frame.pixels.rgb(), f"\n{number} s: ", float(number))
        answer = session.ask(f"\n{QUESTION}", max_tokens=TOKENS)
        if number >= SHOWN - 1:
            costs["in a session"].add(answer, begun)
    return costs


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def lines(costs: dict[str, Costs]) -> Iterator[str]:
    """A table in Markdown."""
    yield "| asked about | visual tokens | prompt tokens | answer ms | CPU ms | against one frame |"
    yield "|---|---|---|---|---|---|"
    base = statistics.median(next(iter(costs.values())).cpu_ms)
    for name, cost in costs.items():
        whole, used = statistics.median(cost.whole_ms), statistics.median(cost.cpu_ms)
        yield (
            f"| {name} | {statistics.median(cost.visual):.0f} | "
            f"{statistics.median(cost.prompt):.0f} | {whole:.0f} | {used:.0f} | {used / base:.2f} |"
        )


def main(arguments: list[str]) -> None:
    """Measure, and print the table."""
    video = Path(arguments[1]) if len(arguments) > 1 else SAMPLE
    with load(arguments[0], threads=2, spin=False) as model:
        frames = frames_of(video)
        measured(model, frames[: SHOWN + 1])  # warm
        for line in lines(measured(model, frames)):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
