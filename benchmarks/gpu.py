"""What a backend makes of its device: encode, prefill, decode, and the share of the limit.

``python -m benchmarks.gpu BUNDLE --backend ort-cuda [--json]``. The limit of a decode step is
the memory: every weight of the decoder (the whole file: an embedding table that is no output head
counts too) and every key and value in the cache is read once a token. The bandwidth it is held
against is measured here, by copies inside the device. The same figures come for ``ort-cpu``, whose
bandwidth is that of copies of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import EdgeVLMError
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.backends.cuda.api import DEVICE_TO_DEVICE, CudaApi
from edgevlm.runtime.backends.cuda.memory import Device
from edgevlm.runtime.backends.cuda.open import open_cuda
from edgevlm.runtime.model.decoder import Decoder, load_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.vision import VisionEncoder

MIB = 1 << 20
COPY_BYTES, COPIES = 256 * MIB, 20
PROMPT, STEPS, RUNS = 256, 64, 10


def device_bandwidth(api: CudaApi) -> float:
    """Bytes a second that copies inside the device read and write."""
    device = Device(api)
    source, target = device.allocate(COPY_BYTES), device.allocate(COPY_BYTES)
    first, second = api.event_create(), api.event_create()
    ms = []
    for _ in range(COPIES):
        api.event_record(first, device.stream)
        api.copy(target.address, source.address, COPY_BYTES, DEVICE_TO_DEVICE, device.stream)
        api.event_record(second, device.stream)
        device.synchronize()
        ms.append(api.event_elapsed_ms(first, second))
    source.close()
    target.close()
    return 2e3 * COPY_BYTES / statistics.median(ms[COPIES // 4 :])


def host_bandwidth() -> float:
    """Bytes a second that a copy of one thread reads and writes."""
    source, target = (np.zeros(COPY_BYTES // 4, np.uint8) for _ in range(2))
    seconds = _median(lambda: np.copyto(target, source))
    return 2 * source.nbytes / seconds


def measure(bundle: Bundle, backend: Backend, api: CudaApi | None) -> dict[str, Any]:
    """The figures of one bundle on one backend.

    Args:
        bundle: of a language model.
        backend: runs its graphs.
        api: of the GPU; None on a CPU.

    Raises:
        EdgeVLMError: no engines for the backend, or graphs that it does not take.
    """
    before = api.memory_info()[0] if api else 0
    view = backend.select(bundle)
    table = EmbeddingTable(view)
    figures: dict[str, Any] = {
        "backend": backend.name,
        "versions": backend.versions(),
        "bundle_id": bundle.id[:12],
        "precision": view.manifest.graphs["decoder"].precision,
    }
    if "vision" in view.manifest.graphs:
        figures |= _encode(view, backend)
    decoder = load_decoder(view, backend, table)
    prompt = min(PROMPT, decoder.capacity // 2)
    steps = min(STEPS, decoder.capacity - prompt)
    figures |= _decode(decoder, table, prompt, steps)
    if api:
        figures["device_mib"] = round((before - api.memory_info()[0]) / MIB)
    decoder.close()
    bandwidth = device_bandwidth(api) if api else host_bandwidth()
    per_token = decoder_bytes(view) + cache_bytes(view, prompt + steps // 2)
    limit = bandwidth / per_token
    return figures | {
        "bandwidth_gb_per_s": round(bandwidth / 1e9, 1),
        "mb_per_token": round(per_token / 1e6, 1),
        "decode_limit_tokens_per_s": round(limit, 1),
        "decode_percent_of_limit": round(100 * figures["decode_tokens_per_s"] / limit, 1),
    }


def decoder_bytes(bundle: Bundle) -> int:
    """Bytes of the decoder's weights: its data file, or its engine."""
    file = bundle.path(bundle.manifest.graphs["decoder"].file)
    data = file.with_name(f"{file.name}.data")
    return sum(f.stat().st_size for f in (file, data) if f.is_file())


def cache_bytes(bundle: Bundle, tokens: int) -> int:
    """Bytes of keys and values in a cache that holds so many tokens."""
    kv = bundle.manifest.kv
    return 0 if kv is None else kv.bytes_per_token * tokens


def _encode(bundle: Bundle, backend: Backend) -> dict[str, Any]:
    encoder = VisionEncoder(bundle, backend)
    random = np.random.default_rng(7)
    pictures = [random.integers(0, 255, (720, 1280, 3), np.uint8) for _ in range(RUNS)]
    encoder.encode(pictures[0])
    ms = [encoder.encode(picture).encode_ms for picture in pictures]
    encoder.close()
    return {"encode_ms_p50": round(statistics.median(ms), 2), "encode_ms_max": round(max(ms), 2)}


def _decode(decoder: Decoder, table: EmbeddingTable, prompt: int, steps: int) -> dict[str, Any]:
    rows = table.rows([i * 7919 % len(table) for i in range(prompt)])

    def prefill() -> None:
        decoder.rewind(0)
        decoder.append(rows)

    prefill()
    prefill_s = _median(prefill)
    step_s = []
    token = 1
    for _ in range(steps):
        begun = time.perf_counter()
        logits = decoder.append(table.rows([token]))
        token = int(logits[-1].argmax())
        step_s.append(time.perf_counter() - begun)
    settled = step_s[len(step_s) // 4 :]  # the first ones capture
    return {
        "prefill_tokens": prompt,
        "prefill_ms_p50": round(1e3 * prefill_s, 2),
        "prefill_ms_per_100_tokens": round(1e5 * prefill_s / prompt, 2),
        "decode_ms_p50": round(1e3 * statistics.median(settled), 3),
        "decode_ms_p95": round(1e3 * float(np.percentile(settled, 95)), 3),
        "decode_tokens_per_s": round(1 / statistics.median(settled), 1),
    }


def _median(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def main(arguments: list[str]) -> int:
    """Print the figures of one bundle; 1 where the backend or its device is not here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="ort-cuda")
    parser.add_argument("--trust-engines", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        backend = open_backend(given.backend, trust_engines=given.trust_engines)
        api = None if given.backend == "ort-cpu" else open_cuda()
        figures: dict[str, Any] = {"device": api.facts().name if api else "cpu"}
        figures |= measure(open_bundle(given.bundle), backend, api)
    except EdgeVLMError as exc:
        sys.stderr.write(f"benchmarks.gpu: {exc}\n")
        return 1
    if given.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        sys.stdout.write("".join(f"{name:28} {value}\n" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
