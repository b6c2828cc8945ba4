"""Measure a bundle on this machine: speed, latency, memory."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgevlm
from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.frame import Frame
from edgevlm.runtime.backends.cuda.api import CudaApi
from edgevlm.runtime.backends.cuda.open import open_cuda
from edgevlm.runtime.device.memory import watch
from edgevlm.runtime.device.timed import TimedBackend
from edgevlm.runtime.model.decoder import load_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.sources import open_source

QUESTION = "What is the main thing in this picture?"
TEXT_QUESTION = "What is the main use of a lighthouse?"
FRAMES = 24
CLIP = "synthetic:?seed=7&fps=10&frames=150&size=1280x720"
COLD_RUNS = 3
Report = Callable[[int, int, str], None]


def bench(
    path: Path,
    backend: str = "ort-cpu",
    threads: int = 0,
    report: Report = lambda _done, _total, _what: None,
    *,
    trust_engines: bool = False,
) -> dict[str, Any]:
    """Our own figures.

    Everything is warm and the bundle in the page cache, except what is called cold: that is a new
    process each time. No cache hits other than the constant part of the prompt, which a stream
    has too; every frame is a different one.

    Args:
        path: bundle folder or ``.evlm``.
        backend: registry name.
        threads: 0 takes the physical cores.
        report: called after every part.
        trust_engines: load engines that this device did not make.

    Returns:
        figures by name, units in the names.

    Raises:
        BackendError: a child process failed.
    """
    bundle = open_bundle(path)
    engine = TimedBackend(open_backend(backend, threads, trust_engines=trust_engines))
    gpu = None if backend == "ort-cpu" else _gpu()
    free = gpu.memory_info()[0] if gpu else 0
    begun = time.perf_counter()
    figures: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": threads or "physical cores",
        "power_mode": None,
        "joules_per_answer": None,
        "versions": {
            "edgevlm": edgevlm.__version__,
            "python": platform.python_version(),
            **engine.versions(),
        },
        "bundle_id": bundle.id,
        "precision": bundle.manifest.precision,
        "device_mb": None,
    }
    with Vlm(bundle, engine) as model:
        figures["load_s"] = round(time.perf_counter() - begun, 3)
        report(1, 5, "loaded")
        figures |= _answers(model, engine)
        if gpu:
            figures["device"] = gpu.facts().name
            figures["device_mb"] = round((free - gpu.memory_info()[0]) / 2**20, 1)
    report(2, 5, "answers")
    figures |= _decoder(bundle, engine)
    report(3, 5, "decoder")
    options = ["--backend", backend, "--threads", str(threads)]
    options += ["--trust-engines"] if trust_engines else []
    figures |= _cold(path, options, "vision" in bundle.manifest.graphs)
    report(4, 5, "cold start")
    if "vision" in bundle.manifest.graphs:
        figures |= _clip(path, options)
    report(5, 5, "clip")
    return figures


def _gpu() -> CudaApi | None:
    try:
        return open_cuda()
    except BackendUnavailable:  # the backend works without one of our bindings
        return None


def _frames() -> list[Any]:
    source = open_source(f"synthetic:?seed=3&fps=1&frames={FRAMES}&size=1280x720")
    frames = [f.pixels.rgb() for f in source.frames() if isinstance(f, Frame)]
    source.close()
    return frames


def _answers(model: Vlm, engine: TimedBackend) -> dict[str, Any]:
    vision = "vision" in model.bundle.manifest.graphs
    pictures = _frames() if vision else [None] * FRAMES
    question = QUESTION if vision else TEXT_QUESTION
    model.ask(pictures[0], question)
    engine.graph_s = 0.0
    begun = time.perf_counter()
    answers = [model.ask(p, question, max_tokens=32) for p in pictures]
    elapsed = time.perf_counter() - begun
    first = [a.timings_ms.preprocess + a.timings_ms.encode + a.timings_ms.prefill for a in answers]
    steps = sum(a.tokens.output - 1 for a in answers)
    return {
        "ttft_ms_p50": round(float(np.percentile(first, 50)), 1),
        "ttft_ms_p95": round(float(np.percentile(first, 95)), 1),
        "encode_ms_p50": round(statistics.median(a.timings_ms.encode for a in answers), 2),
        "preprocess_ms_p50": round(statistics.median(a.timings_ms.preprocess for a in answers), 2),
        "decode_tokens_per_s": round(1e3 * steps / sum(a.timings_ms.decode for a in answers), 1),
        "prompt_tokens_p50": statistics.median(a.tokens.prompt for a in answers),
        "answers_per_s_distinct": round(len(answers) / elapsed, 2),
        "outside_graphs_percent": round(100 * (1 - engine.graph_s / elapsed), 2),
    }


def _decoder(bundle: Bundle, engine: TimedBackend) -> dict[str, Any]:
    view = engine.select(bundle)
    table = EmbeddingTable(view)
    decoder = load_decoder(view, engine, table)
    count = min(256, decoder.capacity - 1)
    rows = table.rows([i * 7919 % len(table) for i in range(count)])
    seconds = []
    for _ in range(6):
        decoder.rewind(0)
        begun = time.perf_counter()
        decoder.append(rows)
        seconds.append(time.perf_counter() - begun)
    decoder.close()
    return {"prefill_ms_per_100_tokens": round(1e5 * statistics.median(seconds[1:]) / count, 1)}


def _cold(path: Path, options: list[str], vision: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [TEXT_QUESTION]
        if vision:
            from PIL import Image

            picture = Path(folder) / "frame.png"
            Image.fromarray(_frames()[0]).save(picture)
            words = [str(picture), QUESTION]
        command = [sys.executable, "-m", "edgevlm", "ask", str(path), *words, *options]
        seconds = []
        for _ in range(COLD_RUNS):
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds.append(time.perf_counter() - begun)
            if done.returncode:
                raise BackendError(f"edgevlm ask failed: {done.stderr.strip()[-200:]}")
    return {"first_answer_cold_s": round(statistics.median(seconds), 2)}


def _clip(path: Path, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgevlm", "run", "--bundle", str(path), "--source", CLIP]
    command += ["--ask", QUESTION, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"edgevlm run failed: {done.stderr.strip()[-200:]}")
    from edgevlm.event import EVENTS, SummaryEvent

    summary = EVENTS.validate_json(done.stdout.strip().splitlines()[-1])
    assert isinstance(summary, SummaryEvent)
    peak = watch(command)
    return {
        "clip": CLIP,
        "clip_frames": summary.frames.read,
        "clip_answered": summary.frames.answered,
        "clip_reused": summary.frames.reused,
        "answers_per_s_clip": summary.answers_per_s,
        "age_ms_p50": summary.age_ms.p50,
        "age_ms_p95": summary.age_ms.p95,
        "peak_rss_mb": peak.rss_mb,
        "peak_anonymous_mb": peak.anonymous_mb,
        "peak_file_mb": peak.file_mb,
    }


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
