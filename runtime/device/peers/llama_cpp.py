"""llama.cpp on a GGUF file, through the C interface that llama-cpp-python wraps.

``python -m edgevlm.runtime.device.peers.llama_cpp --weights FILE.gguf``. The token batches are
built before the clock starts, only the last token's logits are asked for, and they are read in
place; everything that is not stated in the options stays as the library defaults it.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

if not __package__:  # run by file path: this folder would hide the library of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from edgevlm.errors import BackendError
from edgevlm.runtime.device.peers import protocol


class LlamaCpp:
    """A model and a context of llama.cpp."""

    name = "llama.cpp"

    def __init__(self, weights: Path, threads: int, context: int) -> None:
        lib = protocol.require("llama_cpp")
        self._lib = lib
        self.version = version("llama-cpp-python")
        self._quiet = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self._quiet, None)
        lib.llama_backend_init()

        started = perf_counter()
        model_params = lib.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = lib.llama_model_load_from_file(str(weights).encode(), model_params)
        if not self._model:
            raise BackendError(f"llama.cpp cannot load {weights}")
        params = lib.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = context  # a whole prompt in one call
        params.n_threads = params.n_threads_batch = threads
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise BackendError(f"llama.cpp cannot make a context of {context} tokens")
        self.load_s = perf_counter() - started

        self._memory = lib.llama_get_memory(self._context)
        self._vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)))
        self.detail: dict[str, Any] = {
            "model": self._describe(),
            "threads": threads,
            "context": int(lib.llama_n_ctx(self._context)),
            "batch": int(lib.llama_n_batch(self._context)),
            "micro_batch": int(lib.llama_n_ubatch(self._context)),
            "flash_attention": {-1: "auto", 0: "off", 1: "on"}.get(int(params.flash_attn_type)),
            "kv_types": [int(params.type_k), int(params.type_v)],  # ggml types: 0 f32, 1 f16
            "mmap": bool(lib.llama_supports_mmap()),
            "system": lib.llama_print_system_info().decode().strip(),
        }

    def _describe(self) -> str:
        """Return the library's words for the model, such as ``llama ?B Q4_1``."""
        text = ctypes.create_string_buffer(256)
        self._lib.llama_model_desc(self._model, text, len(text))
        return text.value.decode()

    def _decode(self, batch: Any) -> None:
        """Run a batch."""
        status = self._lib.llama_decode(self._context, batch)
        if status != 0:
            raise BackendError(f"llama_decode failed with status {status}")

    def _choose(self) -> int:
        """Return the id of the largest of the last logits."""
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        return int(np.ctypeslib.as_array(pointer, shape=(self._vocab,)).argmax())

    def run(self, prompt: list[int], steps: int) -> protocol.Timing:
        """Clear the KV state, prefill ``prompt`` and decode ``steps`` tokens."""
        lib = self._lib
        lib.llama_memory_clear(self._memory, True)
        ids = (lib.llama_token * len(prompt))(*prompt)
        batch = lib.llama_batch_get_one(ids, len(prompt))  # logits of the last token only
        one = (lib.llama_token * 1)()
        step = lib.llama_batch_get_one(one, 1)  # positions follow the KV state
        tokens = []

        start = perf_counter()
        self._decode(batch)
        prefilled = perf_counter()
        tokens.append(self._choose())
        first = perf_counter()
        for _ in range(steps):
            one[0] = tokens[-1]
            self._decode(step)
            tokens.append(self._choose())
        end = perf_counter()
        return protocol.Timing(prefilled - start, first - start, end - first, tokens)


def main() -> int:
    """Run the worker."""
    args: argparse.Namespace = protocol.options("llama.cpp worker").parse_args()
    return protocol.serve(lambda: LlamaCpp(args.weights, args.threads, args.context), args.context)


if __name__ == "__main__":
    raise SystemExit(main())
