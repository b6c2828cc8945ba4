"""A fixed camera: frames covered per second of processor time, streamed and asked frame by frame.

``python -m benchmarks.fixed_camera bundles/nano`` takes turns (A B C A B C ...) at

A. streaming a labelled clip through ``edgevlm.run``, from the file to the events, loading included;
B. asking the same model about single frames of the clip;
C. a peer on the same language model's weights: prefill of as many tokens as B has in its prompt,
   and as many decoded as B answers. A peer has no vision encoder here, which is to its advantage.

B and C also pay for decoding the video, as A does. Processor time is of all threads of the process,
one compute thread each unless told otherwise (several finish sooner and cost more). Ratios are of
medians. A frame is covered if it was answered or an answer stands for it; beside that stands what
the gate missed, by the labels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import edgevlm
from benchmarks.clips.catalogue import FIXED_CAMERA, clip
from benchmarks.clips.clip import Clip
from benchmarks.clips.filmed import filmed, frames
from benchmarks.gate_metrics import judge
from benchmarks.gating import WITHIN_S
from edgevlm.answer import Answer
from edgevlm.bundle.cache import cache_folder
from edgevlm.config import make_config
from edgevlm.event import AnswerEvent, SummaryEvent
from edgevlm.export.nano.packages import DECODER
from edgevlm.frame import UInt8
from edgevlm.runtime.device.compare import PEERS, PeerProcess
from edgevlm.runtime.model.vlm import Vlm

QUESTION = "What is the main thing in this picture?"
MAX_TOKENS = 32


def streamed(bundle: Path, of: Clip, threads: int, policy: dict[str, Any]) -> dict[str, Any]:
    """Stream the clip: frames covered, processor seconds, and which frames were answered."""
    config = make_config(
        {
            "bundle": str(bundle),
            "ask": QUESTION,
            "source": {"uri": str(filmed(of))},
            "policy": {"mode": "every", **policy},
            "generation": {"max_tokens": MAX_TOKENS},
            "engine": {"threads": threads, "spin": False},
        }
    )
    passed, covered = [], 0
    begun = time.process_time()
    for event in edgevlm.run(config):
        if isinstance(event, AnswerEvent) and not event.reused:
            passed.append(event.frame)
        elif isinstance(event, SummaryEvent):
            covered = event.frames.answered + event.frames.reused
    return {"cpu_s": time.process_time() - begun, "covered": covered, "passed": passed}


def decoded(of: Clip, wanted: int) -> tuple[list[UInt8], float]:
    """Frames spread over the clip, and processor seconds that decoding takes for each frame."""
    step, kept = max(1, of.count // wanted), []
    begun = time.process_time()
    for frame in frames(of):
        if frame.index % step == step // 2:
            kept.append(frame)
    each_s = (time.process_time() - begun) / of.count
    return [frame.pixels.rgb() for frame in kept[:wanted]], each_s


def asked(model: Vlm, pictures: Sequence[UInt8]) -> tuple[float, list[Answer]]:
    """Processor seconds for one frame, and the answers."""
    begun = time.process_time()
    answers = [model.ask(picture, QUESTION, max_tokens=MAX_TOKENS) for picture in pictures]
    return (time.process_time() - begun) / len(pictures), answers


def peer_seconds(peer: PeerProcess, runs: int, prompt: int, output: int) -> float:
    """Processor seconds that a peer takes for one frame."""
    begun = cpu_seconds(peer.pid)
    for _ in range(runs):
        peer.run(prompt, max(0, output - 1))
    return (cpu_seconds(peer.pid) - begun) / runs


def cpu_seconds(pid: int) -> float:
    """User and system time of another process so far; see proc_pid_stat(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(name: str, threads: int) -> PeerProcess:
    """A peer on the weights of nano's decoder, its workers not spinning."""
    arguments = ["--weights", str(DECODER.locate()), "--threads", str(threads)]
    if name == "ort-genai":
        arguments += ["--cache", str(cache_folder() / "peers"), "--spinning", "off"]
    return PeerProcess(name, arguments)


def measure(
    bundle: Path,
    of: Clip,
    peers: Sequence[str],
    threads: int,
    rounds: int,
    asks: int,
    policy: dict[str, Any],
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Medians of every way in turn."""
    spent: dict[str, list[float]] = {"streamed": [], "asked": [], **{p: [] for p in peers}}
    passed: list[int] = []
    with ExitStack() as stack:
        model = stack.enter_context(edgevlm.load(bundle, threads=threads, spin=False))
        running = {name: started(name, threads) for name in peers}
        for process in running.values():
            stack.callback(process.close)
        pictures, decode_s = decoded(of, asks)
        _, answers = asked(model, pictures[:2])
        prompt = output = 0.0
        for turn in range(rounds):
            run = streamed(bundle, of, threads, policy)
            passed = run["passed"]
            spent["streamed"].append(run["cpu_s"] / run["covered"])
            each_s, answers = asked(model, pictures)
            spent["asked"].append(decode_s + each_s)
            prompt = statistics.mean(a.tokens.prompt for a in answers)
            output = statistics.mean(a.tokens.output for a in answers)
            for name, process in running.items():
                if not turn:
                    peer_seconds(process, 1, round(prompt), round(output))  # warming up
                each_s = peer_seconds(process, asks, round(prompt), round(output))
                spent[name].append(decode_s + each_s)
            report(f"round {turn + 1} of {rounds}")
    verdict = judge(of.changes, passed, of.count, of.fps, WITHIN_S, of.complete)
    median = {way: statistics.median(seconds) for way, seconds in spent.items()}
    return {
        "clip": of.name,
        "seconds": round(of.count / of.fps, 1),
        "threads": threads,
        "rounds": rounds,
        "prompt_tokens": round(prompt, 1),
        "output_tokens": round(output, 1),
        "decode_video_cpu_ms": round(1e3 * decode_s, 2),
        "cpu_ms_per_frame": {way: round(1e3 * s, 2) for way, s in median.items()},
        "frames_per_cpu_s": {way: round(1 / s, 1) for way, s in median.items()},
        "streamed_over": {
            way: round(s / median["streamed"], 1) for way, s in median.items() if way != "streamed"
        },
        "gate": {
            key: value for key, value in verdict.row().items() if not key.startswith("cost")
        },
    }  # fmt: skip


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/nano"))
    parser.add_argument("--against", action="append", choices=PEERS, default=[])
    parser.add_argument("--clip", default=FIXED_CAMERA)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--asks", type=int, default=24, help="frames asked about in each round")
    parser.add_argument("--policy", type=json.loads, default={}, help="JSON of [policy]")
    chosen = parser.parse_args()
    found = measure(
        chosen.bundle, clip(chosen.clip), chosen.against, chosen.threads, chosen.rounds,
        chosen.asks, chosen.policy, lambda text: print(text, flush=True),
    )  # fmt: skip
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
