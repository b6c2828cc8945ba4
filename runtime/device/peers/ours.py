"""edgevlm itself as a worker, so that it is measured exactly as its peers are.

``python -m edgevlm.runtime.device.peers.ours --weights BUNDLE``. Embedding look-up, the choice of
the token and every copy around the graph are inside the clock, as they are for the others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm import __version__
from edgevlm.bundle import open_bundle
from edgevlm.errors import ContextOverflow
from edgevlm.runtime.device.peers import protocol
from edgevlm.runtime.model.decoder import open_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import open_backend


class Edgevlm:
    """The decoder of a bundle."""

    name = "edgevlm"

    def __init__(self, folder: Path, threads: int, context: int) -> None:
        begun = perf_counter()
        bundle = open_bundle(folder)
        manifest = bundle.manifest
        _, layout, _ = manifest.language
        if layout.capacity < context:
            raise ContextOverflow(f"{folder} holds {layout.capacity} tokens, {context} are wanted")
        backend = open_backend("ort-cpu", threads, spin=True)
        self._table = EmbeddingTable(bundle)
        entry = manifest.graphs["decoder"]
        graph = backend.load(bundle.path(entry.file), burst=True)
        self._decoder = open_decoder(manifest, graph)
        self.load_s = perf_counter() - begun
        self.version = __version__
        self.detail: dict[str, Any] = {
            "precision": manifest.precision,
            "exceptions": sorted(set(entry.exceptions.values())),
            "threads": threads,
            "spinning": "on",
            **backend.versions(),
        }

    def run(self, prompt: list[int], steps: int) -> protocol.Timing:
        """Prefill ``prompt``, then decode ``steps`` tokens greedily."""
        self._decoder.rewind(0)
        begun = perf_counter()
        logits = self._decoder.append(self._table.rows(prompt))
        prefilled = perf_counter()
        tokens = [int(logits[-1].argmax())]
        first = perf_counter()
        for _ in range(steps):
            logits = self._decoder.append(self._table.rows(tokens[-1:]))
            tokens.append(int(logits[-1].argmax()))
        done = perf_counter()
        return protocol.Timing(
            prefill_s=prefilled - begun,
            first_token_s=first - begun,
            decode_s=done - first,
            tokens=tokens,
        )


def main() -> int:
    """Serve requests until the input ends."""
    args = protocol.options("edgevlm worker").parse_args()
    return protocol.serve(lambda: Edgevlm(args.weights, args.threads, args.context), args.context)


if __name__ == "__main__":
    sys.exit(main())
