"""Perplexity of bundles against transformers on the same GGUF weights.

``python -m benchmarks.perplexity BUNDLE...`` (nano bundles of any precision; wants the extras
``export`` and ``nano``). ``--int4`` exports nano itself, in every kind of 4 bits: groups of 32 and
128, with zero points and without (TensorRT's kind), calibrated and rounded to nearest; nothing is
repaired. The text is chapter I of Alice in Wonderland, kept in ``tests/data``; it
is cut into windows, each with a fresh context, and a bundle reads a window in two pieces.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.nano.packages import DECODER
from edgevlm.export.pipeline import export
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.load import open_backend

TEXT = Path(__file__).parent.parent / "tests" / "data" / "public_domain.txt"
WINDOW, WINDOWS = 800, 3
Logits = NDArray[np.float32]


def text_windows(tokenizer: Tokenizer) -> list[list[int]]:
    """The text as ``WINDOWS`` windows of ``WINDOW`` tokens."""
    ids = tokenizer.encode(TEXT.read_text("utf-8"), add_special_tokens=False).ids
    return [ids[start : start + WINDOW] for start in range(0, WINDOW * WINDOWS, WINDOW)]


def perplexity(windows: list[list[int]], logits_of: Callable[[list[int]], Logits]) -> float:
    """Exponential of the mean negative log likelihood of every token but a window's first."""
    losses = []
    for window in windows:
        logits = logits_of(window)[:-1].astype(np.float64)
        shifted = logits - logits.max(-1, keepdims=True)
        chosen = shifted[np.arange(len(shifted)), window[1:]]
        losses.append(np.log(np.exp(shifted).sum(-1)) - chosen)
    return float(np.exp(np.concatenate(losses).mean()))


def bundle_logits(bundle: Bundle) -> Callable[[list[int]], Logits]:
    """Logits of a window through the bundle's decoder, in two pieces."""
    manifest = bundle.manifest
    graph = open_backend().load(bundle.path(manifest.graphs["decoder"].file))
    spec, layout, _ = manifest.language
    assert isinstance(spec, DecoderSpec)
    decoder = CachedDecoder(graph, layout, spec)
    table = EmbeddingTable(bundle)

    def logits_of(window: list[int]) -> Logits:
        decoder.rewind(0)
        half = len(window) // 2
        pieces = [window[:half], window[half:]]
        return np.concatenate([decoder.append(table.rows(p), len(p)).copy() for p in pieces])

    return logits_of


def transformers_logits() -> Callable[[list[int]], Logits]:
    """Logits of a window through transformers, fp32, from the same GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM

    path = DECODER.locate()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    model.eval()

    def logits_of(window: list[int]) -> Logits:
        with torch.no_grad():
            logits: Logits = model(torch.tensor([window])).logits[0].numpy()
        return logits

    return logits_of


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="*")
    parser.add_argument("--int4", action="store_true", help="every kind of 4 bits")
    chosen = parser.parse_args()
    if not chosen.bundles and not chosen.int4:
        parser.error("name bundles, or --int4")
    windows = text_windows(build_tokenizer(GgufFile(DECODER.locate()).metadata))
    reference = perplexity(windows, transformers_logits())
    print(f"transformers fp32: {reference:.3f}", flush=True)
    for name, bundle in chain(given(chosen.bundles), kinds() if chosen.int4 else ()):
        found = perplexity(windows, bundle_logits(bundle))
        print(f"{name}: {found:.3f}, {100 * (found / reference - 1):+.2f} %", flush=True)


def given(paths: list[Path]) -> Iterator[tuple[str, Bundle]]:
    """Bundles that are there, and what to call them."""
    for path in paths:
        bundle = open_bundle(path)
        yield f"{path} ({bundle.manifest.precision})", bundle


def kinds() -> Iterator[tuple[str, Bundle]]:
    """Nano in every kind of 4 bits, one after the other, and what to call it."""
    for group, symmetric, calibrate in product((32, 128), (False, True), (True, False)):
        options = ExportOptions(
            precision="int4", group=group, symmetric=symmetric, calibrate=calibrate,
            repair_budget=0, allow_drift=True,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            begun, used = time.perf_counter(), time.process_time()
            done = export("nano", Path(folder) / "bundle", options)
            seconds, cpu = time.perf_counter() - begun, time.process_time() - used
            name = ", ".join(
                [
                    f"groups of {group}",
                    "symmetric" if symmetric else "asymmetric",
                    "calibrated" if calibrate else "to nearest",
                    f"{done.size / 1e6:.1f} MB, exported in {seconds:.0f} s ({cpu:.0f} s of CPU)",
                ]
            )
            yield name, open_bundle(Path(folder) / "bundle")


if __name__ == "__main__":
    main()
