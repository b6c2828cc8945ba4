"""``make bench-gpu``: its arithmetic on the CPU, and its refusal without a GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import gpu
from edgevlm.bundle import Bundle
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.cuda.host import HostApi
from edgevlm.runtime.backends.scripted_engine import HERE, ScriptedTrtBackend
from edgevlm.runtime.device import bench
from tests.runtime.engine_bundle import add_engines


def test_the_figures_belong_together(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(gpu, "COPY_BYTES", 1 << 20)
    assert gpu.main([str(tiny.root), "--backend", "ort-cpu", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    data = tiny.root / "decoder.onnx.data"
    weights = data.stat().st_size + (tiny.root / "decoder.onnx").stat().st_size
    cache = 2 * 2 * 2 * 16 * 4 * (256 + 32)  # layers, parts, heads, width, bytes, tokens
    assert found["mb_per_token"] == round((weights + cache) / 1e6, 1)
    limit = found["decode_limit_tokens_per_s"]
    assert limit == pytest.approx(1e9 * found["bandwidth_gb_per_s"] / (weights + cache), rel=0.2)
    share = 100 * found["decode_tokens_per_s"] / limit
    assert found["decode_percent_of_limit"] == pytest.approx(share, rel=0.05, abs=0.1)
    assert found["prefill_tokens"] == 256


def test_the_bandwidth_of_a_device_is_counted_both_ways(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "COPY_BYTES", 1 << 20)
    api = HostApi()  # whose events are a millisecond apart
    assert gpu.device_bandwidth(api) == 2e3 * (1 << 20)
    assert api.memory_info()[0] == api.memory_info()[1]


def test_bench_says_which_gpu_and_how_much_of_it(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "tiny"
    shutil.copytree(tiny.root, root)
    add_engines(root)
    api = HostApi()
    backend = ScriptedTrtBackend(EngineOptions(), HERE, api)
    monkeypatch.setattr(bench, "open_cuda", lambda: api)
    monkeypatch.setattr(bench, "open_backend", lambda *_given, **_options: backend)
    monkeypatch.setattr(bench, "_cold", lambda _path, options, _vision: {"options": options})
    figures = bench.bench(root, "trt", 1, trust_engines=True)
    assert figures["device"] == "host memory"
    assert figures["device_mb"] > 0.3  # the cache alone
    assert figures["decode_tokens_per_s"] > 0
    assert figures["options"] == ["--backend", "trt", "--threads", "1", "--trust-engines"]
    assert api.memory_info()[0] == api.memory_info()[1]


def test_without_a_gpu_it_says_what_is_missing(tiny: Bundle, capfd: pytest.CaptureFixture[str]):
    if gpu.main([str(tiny.root), "--backend", "trt"]) == 0:
        pytest.skip("this machine has TensorRT, a GPU, and engines")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("benchmarks.gpu: ")
