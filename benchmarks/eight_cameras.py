"""Eight cameras of 1080p at 30 frames a second, gated on two cores: is a change of scene lost?

``python -m benchmarks.eight_cameras --seconds 60``. Every camera is a live source on a thread of
its own that hands its newest frame over, as in a stream; a second thread looks at it with a gate,
and what the gate lets through counts as answered at once. The pictures are those of
``synthetic:``, drawn before the clock starts and then delivered again and again: a real camera's
come from a decoder, and drawing 240 of them a second would take more than the two cores.

A change of scene is lost if no frame of the new scene was let through before the scene ended.
Frames that were pushed out by newer ones before the gate saw them are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np

from benchmarks.gating import made, no_model
from edgevlm.frame import Frame
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.gates.chain import Chain
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.handover import Latest, feed
from edgevlm.runtime.stream.sources.arrival import Pace, arrived
from edgevlm.runtime.stream.sources.pixels import VideoPixels
from edgevlm.runtime.stream.sources.synthetic import SCENE_S, SyntheticSource

FPS, SIZE, SCENES, EACH = 30.0, "1920x1080", 3, 6  # pictures: SCENES * EACH of 3 MB a camera
_SCENE = round(SCENE_S * FPS)


class Camera:
    """A live source that delivers drawn pictures at its own pace.

    Args:
        seed: of what it sees.
        late_s: by how much its scenes begin later than those of the first camera.
    """

    live = True

    def __init__(self, seed: int, late_s: float) -> None:
        self.name = f"camera {seed}"
        self._closed = False
        self._late = round(late_s * FPS)
        drawn = SyntheticSource(f"synthetic:?seed={seed}&fps={FPS}&size={SIZE}")
        step = _SCENE // EACH
        self._pictures = [
            [_planes(drawn.render(scene * _SCENE + n * step)) for n in range(EACH)]
            for scene in range(SCENES)
        ]

    def scene(self, index: int) -> int:
        """The number of the scene that a frame shows, counted without end."""
        return (index + self._late) // _SCENE

    def frames(self) -> Iterator[Frame]:
        """Frames as they become due, until it is closed."""
        pace, index = Pace(SYSTEM, lambda: self._closed), 0
        while pace.wait(index / FPS):
            scene, at = divmod(index + self._late, _SCENE)
            picture = self._pictures[scene % SCENES][at * EACH // _SCENE]
            yield arrived(SYSTEM, index, VideoPixels(picture, (False,) * 3), index / FPS)
            index += 1

    def close(self) -> None:
        """End ``frames``."""
        self._closed = True


@dataclass(slots=True)
class Watched:
    """What one camera's gate did.

    Args:
        passed: indices of the frames let through.
        seen: how many it looked at.
        last: index of the last one.
        cpu_s: processor time of looking.
        waited_ms: from a frame's arrival until it had been looked at.
    """

    passed: list[int] = field(default_factory=list)
    seen: int = 0
    last: int = -1
    cpu_s: float = 0.0
    waited_ms: list[float] = field(default_factory=list)


def _planes(rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")


def watch(
    hand_over: Latest[Frame], gate: Chain, stopped: threading.Event, watched: Watched
) -> None:
    """Look at every frame that comes through, until stopped."""
    for frame in hand_over.items(stopped.is_set):
        begun = time.thread_time()
        if gate.decide(View(frame, frame.index / FPS, no_model)).do == "answer":
            gate.accept()
            watched.passed.append(frame.index)
        watched.cpu_s += time.thread_time() - begun
        watched.waited_ms.append((time.monotonic_ns() - frame.monotonic_ns) / 1e6)
        watched.seen += 1
        watched.last = frame.index


def scenes(camera: Camera, watched: Watched) -> tuple[int, int, list[int]]:
    """How many scenes began and ended while the camera was watched, and how many nobody saw.

    Returns:
        scenes, lost ones, and for the others frames from their first to the one let through.
    """
    begins: dict[int, int] = {}
    for index in range(watched.last + 1):
        begins.setdefault(camera.scene(index), index)
    first_seen: dict[int, int] = {}
    for index in watched.passed:
        first_seen.setdefault(camera.scene(index), index)
    whole = [scene for scene in begins if scene < camera.scene(watched.last)]
    delays = [first_seen[scene] - begins[scene] for scene in whole if scene in first_seen]
    return len(whole), len(whole) - len(delays), delays


def measure(cameras: int, seconds: float, spec: str, cores: int) -> dict[str, object]:
    """Watch so many cameras for so long."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    sources = [Camera(seed, seed * SCENE_S / cameras) for seed in range(cameras)]
    watched = [Watched() for _ in sources]
    lines: list[Latest[Frame]] = [Latest() for _ in sources]
    stopped = threading.Event()
    watchers = [
        threading.Thread(target=watch, args=(line, made(spec), stopped, one))
        for line, one in zip(lines, watched, strict=True)
    ]
    begun, cpu = time.monotonic(), time.process_time()
    for source, line, watcher in zip(sources, lines, watchers, strict=True):
        feed(line, source.frames())
        watcher.start()
    time.sleep(seconds)
    for source, line in zip(sources, lines, strict=True):
        source.close()
        line.close()
    stopped.set()
    for watcher in watchers:
        watcher.join()
    took, cpu = time.monotonic() - begun, time.process_time() - cpu
    found = [scenes(source, one) for source, one in zip(sources, watched, strict=True)]
    pushed_out = sum(line.take_superseded() for line in lines)
    seen = sum(one.seen for one in watched)
    waited = [ms for one in watched for ms in one.waited_ms]
    delays = [delay for *_, late in found for delay in late]
    return {
        "cameras": cameras,
        "cores": cores,
        "seconds": round(took, 1),
        "gate": spec,
        "frames_seen": seen,
        "frames_per_s": round(seen / took, 1),
        "frames_superseded": pushed_out,
        "scenes": sum(count for count, *_ in found),
        "scenes_lost": sum(lost for _, lost, _ in found),
        "delay_frames_p50": statistics.median(delays) if delays else None,
        "delay_frames_most": max(delays, default=None),
        "wait_ms_p50": round(float(np.percentile(waited, 50)), 2),
        "wait_ms_p95": round(float(np.percentile(waited, 95)), 2),
        "gate_cpu_ms_per_frame": round(1e3 * sum(one.cpu_s for one in watched) / seen, 3),
        "cpu_percent_of_a_core_per_camera": round(100 * cpu / took / cameras, 2),
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gate", default="pixel", metavar="SPEC")
    parser.add_argument("--cores", type=int, default=2)
    chosen = parser.parse_args()
    found = measure(chosen.cameras, chosen.seconds, chosen.gate, chosen.cores)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
