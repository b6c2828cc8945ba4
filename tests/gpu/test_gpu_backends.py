"""Every GPU backend that is installed, against the certificate's gates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.errors import ConfigError
from edgevlm.export.engines.build import BuildOptions, build
from edgevlm.export.engines.target import parse_target
from edgevlm.parity import GATE_COSINE, cosine
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.certify import certify
from edgevlm.runtime.model.decoder import load_decoder
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]
ON_ONNX, ON_ENGINES = ("ort-cuda", "ort-trt-rtx"), ("trt", "trt-rtx", "ort-trt")
Usable = Callable[[str], Backend]


def with_engines(bundle: Bundle, backend: Backend, folder: Path) -> Bundle:
    """A copy of the bundle with engines for the backend, where it runs engines."""
    if backend.target is None:
        return bundle
    try:
        target = parse_target(backend.target)
    except ConfigError as exc:  # TensorRT-RTX has no code for this card
        pytest.skip(str(exc))
    root = folder / "bundle"
    shutil.copytree(bundle.root, root)
    build(root, target, BuildOptions(level=1))
    return open_bundle(root)


@pytest.mark.parametrize("name", ON_ONNX + ON_ENGINES)
def test_a_small_decoder_keeps_its_gates(
    name: str, tiny_fp16: Bundle, usable: Usable, tmp_path: Path
):
    backend = usable(name)
    found = certify(with_engines(tiny_fp16, backend, tmp_path), backend)
    assert (found.backend, found.status) == (name, "measured")
    assert found.misses == ()


@pytest.mark.parametrize("name", ON_ONNX + ON_ENGINES)
def test_nano_keeps_its_gates_and_answers(
    name: str, nano_fp16: Bundle, usable: Usable, tmp_path: Path
):
    backend = usable(name)
    bundle = with_engines(nano_fp16, backend, tmp_path)
    assert certify(bundle, backend).misses == ()
    picture = np.random.default_rng(4).integers(0, 255, (240, 320, 3), np.uint8)
    with Vlm(bundle, usable(name)) as model:
        first, again = (model.ask(picture, "What is it?", max_tokens=16) for _ in range(2))
    assert first.token_ids == again.token_ids  # warm or cold, captured or not
    assert first.backend == name


@pytest.mark.parametrize("name", ON_ONNX + ON_ENGINES)
def test_decode_steps_say_what_one_call_over_all_rows_says(
    name: str, tiny_fp16: Bundle, usable: Usable, tmp_path: Path
):
    """What a CUDA graph froze by mistake shows here, and not in the certificate's one call."""
    backend = usable(name)
    view = backend.select(with_engines(tiny_fp16, backend, tmp_path))
    rows = np.random.default_rng(6).normal(0, 1, (140, 64)).astype(np.float32)
    table = EmbeddingTable(view)
    whole, steps = (load_decoder(view, backend, table) for _ in range(2))
    wanted = [whole.append(rows[:100])[-1].copy()]
    wanted += [*whole.append(rows[100:116], logits=16).copy()]
    found = [steps.append(rows[:100])[-1].copy()]
    found += [steps.append(rows[n : n + 1])[-1].copy() for n in range(100, 116)]
    for step, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert cosine(a, b) > GATE_COSINE["fp16"], f"step {step}"
    steps.rewind(100)  # and once more from there, by the graphs that exist
    again = [steps.append(rows[n : n + 1])[-1].copy() for n in range(100, 116)]
    for step, (a, b) in enumerate(zip(again, found[1:], strict=True)):
        assert cosine(a, b) > GATE_COSINE["fp16"], f"step {step} again"


def test_a_bundle_without_engines_goes_to_the_gpu_provider_where_that_was_asked_for(
    nano_fp16: Bundle, usable: Usable
):
    usable("ort-cuda")
    usable("trt")
    with load(nano_fp16.root, backend="trt", fallback="ort-cuda") as model:
        assert model.backend.name == "ort-cuda"
        assert "edgevlm build" in model.missed.reason
