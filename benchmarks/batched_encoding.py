"""Is a batch of pictures encoded faster than the pictures one by one?

``python -m benchmarks.batched_encoding BUNDLE [--threads N]`` loads the bundle's vision graph on
the CPU and measures 1 and 4 pictures a call in turn (A B A B): medians per picture, of the
wall and of processor time, which a busy machine changes less. Of a graph that takes one picture a
call it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from edgevlm.bundle import open_bundle
from edgevlm.runtime.model.load import open_backend

BATCHES = (1, 4)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    graph = open_backend("ort-cpu", given.threads).load(
        bundle.path(bundle.manifest.graphs["vision"].file)
    )
    image = next(spec for spec in graph.inputs if spec.name == "image")
    found: dict[str, object] = {"bundle": bundle.manifest.name, "image": list(image.shape)}
    if len(image.shape) != 4 or isinstance(image.shape[0], int):
        found["batch"] = "the graph takes one picture a call"
        print(json.dumps(found))
        return
    size = tuple(int(d) for d in image.shape[1:])
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (max(BATCHES), *size), np.uint8)
    took: dict[int, list[float]] = {count: [] for count in BATCHES}
    cpu_ms: dict[int, list[float]] = {count: [] for count in BATCHES}
    for turn in range(given.rounds + 1):
        for count in BATCHES:
            wall, cpu = time.perf_counter(), time.process_time()
            graph.run({"image": pictures[:count]})
            if turn:  # the first round warms up
                took[count].append((time.perf_counter() - wall) * 1e3 / count)
                cpu_ms[count].append((time.process_time() - cpu) * 1e3 / count)
    for count in BATCHES:
        found[f"batch_{count}"] = {
            "ms_a_picture": round(statistics.median(took[count]), 2),
            "cpu_ms_a_picture": round(statistics.median(cpu_ms[count]), 2),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
