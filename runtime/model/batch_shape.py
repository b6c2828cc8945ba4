"""Does a row come out the same whatever it is computed with? Measured, because drafts rest on it.

Kernels choose their way by the number of rows. Where the logits of a position differ between a
step of one token and a pass of several, a drafted token may be taken only if no other stands closer
than that.
"""

from __future__ import annotations

import math
import platform
from pathlib import Path

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.parity import BatchShape, Certificate, max_abs
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.decoder import Decoder
from edgevlm.runtime.model.embedding import EmbeddingTable

CERTIFIED = 64  # positions, for the certificate
ON_THE_WAY = 16  # where an answer waits for it
ROWS = (3, 8, 17, 33)
PROMPT = 24
MARGIN = 2.0  # what was measured on a few positions is exceeded on others
LEAST = 0.5  # logits, where activations are rounded to 8 bits


def needed_gap(shape: BatchShape | None, precision: str) -> float:
    """Logits that the best token must lie above the second in a drafting pass.

    Two logits that are each off by the deviation change places within twice of it. With activations
    in 8 bits, a difference in the last digit now and then becomes a whole step of their
    quantisation, which few positions show: then the gap is at least ``LEAST``, and a measurement on
    the way is not enough.

    Args:
        shape: what was measured; None is nothing.
        precision: of the decoder.

    Returns:
        0 where every row comes out the same, and infinity where nothing may be drafted.
    """
    if shape is None:
        return math.inf
    gap = 2 * MARGIN * shape.deviation
    if not gap or precision in ("fp32", "fp16"):
        return gap
    return max(gap, LEAST) if shape.positions >= CERTIFIED else math.inf


def measure(
    decoder: Decoder, table: EmbeddingTable, backend: Backend, count: int = CERTIFIED
) -> BatchShape | None:
    """Compute the same positions token by token and in passes; the cache is empty afterwards.

    The positions behind the first differ by what their predecessors' keys and values differ too.

    Args:
        decoder: loaded.
        table: embeddings of the vocabulary.
        backend: that runs it.
        count: positions.

    Returns:
        the largest difference of any logit, or None for a decoder that takes one token a call.
    """
    if not decoder.wide:
        return None
    prompt = max(2, min(PROMPT, decoder.capacity - count - 2))
    positions = min(count, decoder.capacity - prompt - 2)
    if positions < ROWS[0]:
        return None
    sizes = (*(size for size in ROWS if size < positions), positions)
    ids = np.random.default_rng(7).integers(0, len(table), prompt + positions)
    rows = table.rows(ids.tolist())

    def logits(size: int) -> np.ndarray:
        decoder.rewind(0)
        decoder.append(rows[:prompt])
        found = []
        for start in range(prompt, prompt + positions, size):
            part = rows[start : start + size]
            found.append(decoder.append(part, len(part)).copy())
        return np.concatenate(found)

    steps = logits(1)
    deviation = max(max_abs(steps, logits(size)) for size in sizes)
    decoder.rewind(0)
    return BatchShape(
        positions=positions, rows=sizes, deviation=float(deviation), machine=machine(backend)
    )


def of_bundle(bundle: Bundle, backend: Backend) -> BatchShape | None:
    """What the certificate says, if it was measured on a machine like this one.

    That can be told of the CPU: which GPU there was, a certificate does not say. A backend without
    kernels says of itself that rows do not depend on their number.
    """
    if getattr(backend, "rows_alike", False):
        return BatchShape(positions=0, rows=(), deviation=0.0, machine=machine(backend))
    if backend.name != "ort-cpu" or "parity.json" not in bundle.manifest.files:
        return None
    stored = Certificate.parse(bundle.read_text("parity.json"), str(bundle.root))
    for entry in stored.backends:
        shape = entry.batch_shape
        if entry.backend == backend.name and shape and shape.machine == machine(backend):
            return shape
    return None


def machine(backend: Backend) -> str:
    """The processor and the engine's libraries: what chooses a kernel."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = named[0] if named else processor
    except OSError:
        pass
    versions = ", ".join(f"{name} {v}" for name, v in sorted(backend.versions().items()))
    return f"{platform.machine()} {processor}; {versions}"
