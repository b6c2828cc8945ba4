"""``make bench-gpu``: its arithmetic on the CPU, and its refusal without a GPU."""

from __future__ import annotations

import json

import pytest

from benchmarks import gpu
from edgevlm.bundle import Bundle
from edgevlm.runtime.backends.cuda.host import HostApi


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


def test_without_a_gpu_it_says_what_is_missing(tiny: Bundle, capfd: pytest.CaptureFixture[str]):
    if gpu.main([str(tiny.root), "--backend", "trt"]) == 0:
        pytest.skip("this machine has TensorRT, a GPU, and engines")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("benchmarks.gpu: ")
