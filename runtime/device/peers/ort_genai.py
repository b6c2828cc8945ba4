"""ONNX Runtime GenAI on a model that its own builder makes from a GGUF file.

``python -m edgevlm.runtime.device.peers.ort_genai --weights FILE.gguf --cache DIR``. The builder
takes no quantised GGUF, so the weights become a float checkpoint first and are quantised again:
4-bit asymmetric in blocks of 32, an 8-bit LM head that the embedding shares, 8-bit activations
(accuracy level 4), logits of the last token only. Building needs the extra ``export`` too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

if not __package__:  # run by file path: this folder would be searched before the libraries
    sys.path[0] = str(Path(__file__).resolve().parents[3])

from edgevlm.errors import BackendError, BackendUnavailable
from edgevlm.runtime.device.peers import protocol

BUILDER_OPTIONS = (
    "algo_config=rtn_last",  # round to nearest, 8-bit LM head; `default` cannot share an 8-bit one
    "is_symmetric=false",
    "block_size=32",
    "accuracy_level=4",
    "shared_embeddings=true",
    "fuse_mlp_gate_up=true",  # off by default; decodes faster
    "prune_lm_head=true",  # as the other engines: no logits but the last token's
    "hf_token=false",
)
BUILDER_MODULES = ("torch", "transformers", "accelerate", "gguf", "onnx", "onnx_ir")
_CHECKPOINT = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, name, target = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
model.hf_quantizer = None  # the weights are floats now; either mark would make saving fail
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(target)
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(target)
"""


def build_model(weights: Path, target: Path) -> None:
    """Make GenAI's model folder from a GGUF file.

    Args:
        weights: The GGUF file.
        target: The folder to make; it appears only once it is complete.

    Raises:
        BackendUnavailable: A library that the build needs is not installed.
        BackendError: The build failed.
    """
    missing = [name for name in BUILDER_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"building for ONNX Runtime GenAI needs {', '.join(missing)}: "
            "pip install 'edgevlm[export,peers]'"
        )
    weights = weights.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as name:
        work = Path(name).resolve()
        source, made = work / "checkpoint", work / "model"
        _python(work, "-c", _CHECKPOINT, str(weights.parent), weights.name, str(source))
        places = ("-i", str(source), "-o", str(made), "-c", str(work / "cache"))
        kind = ("-p", "int4", "-e", "cpu", "--extra_options", *BUILDER_OPTIONS)
        _python(work, "-m", "onnxruntime_genai.models.builder", *places, *kind)
        try:
            made.rename(target)
        except OSError as error:
            if not (target / "genai_config.json").is_file():  # else another build was first
                raise BackendError(f"cannot place the model at {target}: {error}") from error


def _python(folder: Path, *arguments: str) -> None:
    """Run this interpreter in ``folder``, without the network and with its output kept."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise BackendError(f"building for ONNX Runtime GenAI failed: {last}")


def cached_model(weights: Path, cache: Path) -> Path:
    """Return the folder of these weights' model, built on first use."""
    if not weights.is_file():
        raise BackendError(f"no weights at {weights}")
    key = hashlib.sha256(weights.read_bytes())
    key.update(" ".join((version("onnxruntime-genai"), *BUILDER_OPTIONS)).encode())
    target = cache / f"genai-{key.hexdigest()[:16]}"
    if not (target / "genai_config.json").is_file():
        build_model(weights, target)
    return target


class OrtGenai:
    """A model and a generator of ONNX Runtime GenAI."""

    name = "onnxruntime-genai"

    def __init__(self, model: Path, threads: int, context: int, spinning: str) -> None:
        lib = protocol.require("onnxruntime_genai")
        lib.disable_telemetry_events()
        self.version = version("onnxruntime-genai")
        vocabulary = json.loads((model / "genai_config.json").read_text("utf-8"))["model"]
        session: dict[str, Any] = {"intra_op_num_threads": threads}
        if spinning != "default":
            session["session.intra_op.allow_spinning"] = str(int(spinning == "on"))
        # An end-of-sequence id that does not come up: behind it GenAI does nothing, at no cost.
        never = {"eos_token_id": vocabulary["vocab_size"] - 1}

        started = perf_counter()
        config = lib.Config(str(model))
        config.overlay(json.dumps({"model": {**never, "decoder": {"session_options": session}}}))
        self._model = lib.Model(config)
        params = lib.GeneratorParams(self._model)
        params.set_search_options(do_sample=False, top_k=1, num_beams=1, max_length=context)
        self._generator = lib.Generator(self._model, params)
        self.load_s = perf_counter() - started
        self.detail: dict[str, Any] = {
            "onnxruntime": version("onnxruntime"),
            "threads": threads,
            "context": context,
            "spinning": "on, the library's default" if spinning == "default" else spinning,
            "builder": ["int4", "cpu", *BUILDER_OPTIONS],
        }

    def run(self, prompt: list[int], steps: int) -> protocol.Timing:
        """Clear the KV state, prefill ``prompt`` and decode ``steps`` tokens."""
        generator = self._generator
        if generator.token_count():
            generator.rewind_to(0)
        ids = np.array(prompt, dtype=np.int32)

        start = perf_counter()
        generator.append_tokens(ids)  # computes the prompt's logits
        prefilled = perf_counter()
        generator.generate_next_token()  # chooses from them
        first = perf_counter()
        for _ in range(steps):
            generator.generate_next_token()  # computes the last token's logits and chooses
        end = perf_counter()
        tokens = generator.get_sequence(0)[len(prompt) :]
        if len(tokens) != steps + 1:
            raise BackendError(f"GenAI made {len(tokens)} tokens where {steps + 1} were asked for")
        return protocol.Timing(prefilled - start, first - start, end - first, list(tokens))


def main() -> int:
    """Run the worker."""
    parser = protocol.options("ONNX Runtime GenAI worker")
    parser.add_argument("--cache", type=Path, required=True, help="folder for built models")
    parser.add_argument("--spinning", choices=("default", "on", "off"), default="default")
    args = parser.parse_args()

    def load() -> OrtGenai:
        protocol.require("onnxruntime_genai")
        model = cached_model(args.weights, args.cache)
        return OrtGenai(model, args.threads, args.context, args.spinning)

    return protocol.serve(load, args.context)


if __name__ == "__main__":
    raise SystemExit(main())
