"""transformers on a GGUF file, in fp32 as it reads one, on PyTorch.

``python -m edgevlm.runtime.device.peers.hf_transformers --weights FILE.gguf``. The loop is what
``generate`` does when it chooses greedily, without its bookkeeping: one forward pass a token over
a cache that grows.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from edgevlm.errors import BackendError
from edgevlm.runtime.device.peers import protocol


class Transformers:
    """A causal language model of transformers."""

    name = "transformers"

    def __init__(self, weights: Path, threads: int) -> None:
        if not weights.is_file():
            raise BackendError(f"no weights at {weights}")
        self._torch = protocol.require("torch", "export")
        library = protocol.require("transformers", "export")
        library.utils.logging.disable_progress_bar()
        self.version = version("transformers")
        self._torch.set_num_threads(threads)
        started = perf_counter()
        self._model: Any = library.AutoModelForCausalLM.from_pretrained(
            weights.parent, gguf_file=weights.name, dtype=self._torch.float32
        ).eval()
        self.load_s = perf_counter() - started
        self.detail: dict[str, Any] = {
            "torch": version("torch"),
            "threads": threads,
            "dtype": "float32",
            "attention": self._model.config._attn_implementation,
        }

    def run(self, prompt: list[int], steps: int) -> protocol.Timing:
        """Prefill ``prompt`` and decode ``steps`` tokens, from an empty cache."""
        torch = self._torch
        ids = torch.tensor([prompt])
        tokens = []
        with torch.inference_mode():
            start = perf_counter()
            seen = self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
            prefilled = perf_counter()
            tokens.append(int(seen.logits[0, -1].argmax()))
            first = perf_counter()
            for _ in range(steps):
                seen = self._model(
                    input_ids=torch.tensor([tokens[-1:]]),
                    past_key_values=seen.past_key_values,
                    use_cache=True,
                )
                tokens.append(int(seen.logits[0, -1].argmax()))
            end = perf_counter()
        return protocol.Timing(prefilled - start, first - start, end - first, tokens)


def main() -> int:
    """Run the worker."""
    args: argparse.Namespace = protocol.options("transformers worker").parse_args()
    return protocol.serve(lambda: Transformers(args.weights, args.threads), args.context)


if __name__ == "__main__":
    sys.exit(main())
