"""Times and memory by hand, the law, the search, and what the published table says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from edgevlm.cost import CostSheet, GraphCost, Poly, Weights, Work
from edgevlm.cost.shapes import DecoderShape, decoder_cost
from edgevlm.errors import BackendUnavailable, ConfigError
from edgevlm.runtime.device.plan import published
from edgevlm.runtime.device.plan.devices import Device, find, known, sources
from edgevlm.runtime.device.plan.engines import engine, engine_of
from edgevlm.runtime.device.plan.memory import memory
from edgevlm.runtime.device.plan.predict import Ask, predict
from edgevlm.runtime.device.plan.roofline import Rates, call_ms, rate_at, rates
from edgevlm.runtime.device.plan.scaling import LAWS, best_tokens, blended_error
from edgevlm.runtime.device.plan.search import Target, pareto, search

ROUND = Device(
    title="round numbers", kind="gpu", tensor_tflops=10.0, vector_tflops=1.0,
    bandwidth_gb_s=100.0, memory_gb=8.0, usable_gb=6.0, power_w=20.0, source={},
)  # fmt: skip
PLAIN = engine("trt").model_copy(
    update={"matmul": 0.5, "bandwidth": 0.8, "half_rows": 100.0, "launch_us": 10.0, "fused": 1.0,
            "process_mb": 1000.0}
)  # fmt: skip
SHAPE = DecoderShape(
    layers=10, hidden=1000, inner=3000, heads=10, kv_heads=2, head_dim=100, vocab=50000
)
SHEET = CostSheet(
    name="model", family="llama", parameters=163_000_000, decoder=decoder_cost(SHAPE),
    kv_values_per_token=SHAPE.kv_values_per_token, max_context=4096,
)  # fmt: skip


def one_class(kind: str, flops: float, values: float, weights: int) -> GraphCost:
    work = Work(flops=Poly(linear=flops), values=Poly(linear=values), nodes=5)
    return GraphCost(
        unit="tokens", work={kind: work},
        weights=Weights(total={"fp16": weights}, largest={"fp16": weights}, count=weights // 2),
    )  # fmt: skip


def test_a_product_of_many_rows_is_bound_by_arithmetic():
    limits = rates(ROUND, PLAIN, "fp16")
    assert limits.matmul_tflops == 5.0
    # 100 rows fill half: 2.5 TFLOPS; 2.5e9 operations a row, 100 rows: 100 ms, and 5 launches.
    cost = one_class("matmul", 2.5e9, 0.0, 1_000_000)
    ms = call_ms(cost, "fp16", limits, PLAIN, count=100, rows=100)
    assert ms == pytest.approx(100.0 + 0.05)


def test_a_product_of_one_row_is_bound_by_reading_its_weights():
    limits = rates(ROUND, PLAIN, "fp16")
    cost = one_class("matmul", 2e9, 0.0, 2_000_000_000)  # 2 GB at 80 GB/s: 25 ms
    ms = call_ms(cost, "fp16", limits, PLAIN, count=1, rows=1)
    assert ms == pytest.approx(25.0 + 0.05)


def test_values_that_are_not_fused_are_read_and_written():
    loose = PLAIN.model_copy(update={"fused": 0.5})
    limits = rates(ROUND, loose, "fp16")
    cost = one_class("elementwise", 1.0, 8e9, 0)  # half of 8e9 values of 2 bytes at 80 GB/s
    assert call_ms(cost, "fp16", limits, loose, count=1, rows=1) == pytest.approx(100.0 + 0.05)


def test_few_rows_run_on_the_vector_units():
    limits = rates(ROUND, PLAIN, "fp16")
    assert rate_at(1, limits) == limits.vector_tflops == 0.5
    assert rate_at(1e9, limits) == pytest.approx(limits.matmul_tflops)
    assert rate_at(100, limits) == pytest.approx(limits.matmul_tflops / 2)


def test_a_larger_device_needs_more_rows():
    large = ROUND.model_copy(update={"tensor_tflops": 40.0})
    assert rates(large, PLAIN, "fp16").half_rows == pytest.approx(200.0)


def test_a_measured_device_is_taken_at_its_word():
    cpu = Device(
        title="cpu", kind="cpu", vector_tflops=0.1, bandwidth_gb_s=10.0, memory_gb=4.0,
        usable_gb=3.0, measured_tflops={"fp32": 0.1, "int4": 0.3}, measured_gb_s={"int4": 7.0},
        source={},
    )  # fmt: skip
    own = engine_of(cpu)
    limits = rates(cpu, own, "int4")
    assert (limits.matmul_tflops, limits.weights_gb_s, limits.half_rows) == (0.3, 7.0, 0.0)
    assert limits.attention_tflops == pytest.approx(0.1 * own.attention)  # attention stays float
    assert rates(cpu, own, "fp16").weights_gb_s == pytest.approx(10.0 * own.bandwidth)


def test_an_answer_is_its_stages():
    made = predict(SHEET, None, "fp16", ROUND, Ask(question_tokens=64, output_tokens=11), PLAIN)
    assert made.prompt_tokens == 64
    steps = 10 * made.decode_ms_per_token
    assert made.answer_ms == pytest.approx(made.prefill_ms + steps)
    assert made.answers_per_s == pytest.approx(1e3 / made.answer_ms)
    assert made.joules_per_answer == pytest.approx(20.0 * made.answer_ms / 1e3)
    # Decoding reads all weights: (10 layers of 11.4 M, and the head) in float16 at 80 GB/s.
    layers = 10 * (1000 * (2 * 1000 + 2 * 200) + 3 * 1000 * 3000)
    kv = SHAPE.kv_values_per_token * 2 * (64 + 5.5 + 1)
    floor = 1e3 * ((layers + 50_000_000) * 2 + kv) / 80e9
    nodes = decoder_cost(SHAPE).nodes * PLAIN.launch_us / 1e3
    elementwise = made.decode_ms_per_token - floor - nodes
    assert 0 <= elementwise < 0.02 * made.decode_ms_per_token


def test_memory_is_the_sum_of_its_parts():
    found = memory(SHEET, None, "fp16", PLAIN, context=2000, prompt=100, encoder_count=0)
    weights = (10 * 11_400_000 + 50_000_000) * 2
    cache = 2000 * 2 * 10 * 200 * 2
    assert found.weights_mb == pytest.approx(weights / 1e6)
    assert found.cache_mb == pytest.approx(cache / 1e6)
    assert found.run_mb == pytest.approx(
        found.weights_mb + found.cache_mb + found.activations_mb + 1000.0
    )
    assert found.run_contiguous_mib == pytest.approx(50_000_000 * 2 / 2**20)
    assert found.largest == "lm_head 50000x1000"


def test_a_head_of_2048_by_151936_asks_for_the_published_gibibyte():
    """hokwangchoi's notes: 1.03 GiB at build. One point, and the factor is fitted on it."""
    qwen = published.models()["qwen3-vl-2b"].decoder
    assert qwen is not None
    sheet = CostSheet(
        name="q", family="qwen3_vl", parameters=1, decoder=decoder_cost(qwen), max_context=4096
    )
    found = memory(sheet, None, "int4", engine("trt"), context=1024, prompt=512, encoder_count=0)
    assert found.build_contiguous_mib / 1024 == pytest.approx(1.03, rel=0.02)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(context=5000), "--context 5000: model has 4096 positions"),
        (Ask(context=20, question_tokens=32), "--context 20.*at least 48"),
    ],
)
def test_a_context_that_cannot_be_is_refused(ask: Ask, words: str):
    with pytest.raises(ConfigError, match=words):
        predict(SHEET, None, "fp16", ROUND, ask)


def test_a_precision_without_weights_is_refused():
    decoder = decoder_cost(SHAPE)
    only = decoder.weights.model_copy(update={"total": {"int4": 1}, "largest": {"int4": 1}})
    sheet = SHEET.model_copy(update={"decoder": decoder.model_copy(update={"weights": only})})
    with pytest.raises(ConfigError, match="fp16: model is planned in int4"):
        predict(sheet, None, "fp16", ROUND, Ask())


@pytest.mark.parametrize(("question", "tokens"), [(25, 6), (50, 12), (100, 24), (200, 48)])
def test_the_optimum_of_the_law_is_where_a_search_finds_it(question: int, tokens: int):
    """At a fixed cost ``billions * (question + tokens)``, by formula and by trying all."""
    law, cost = LAWS["reasoning"], 1000.0
    tried = np.arange(1, 577)
    errors = [law.error(cost / (question + t), float(t)) for t in tried]
    found = best_tokens(question, law, 576)
    assert found == pytest.approx(tokens, abs=0.6)
    assert abs(int(tried[int(np.argmin(errors))]) - found) <= 1


def test_reading_wants_all_tokens():
    assert best_tokens(50, LAWS["reading"], 576) == 576
    assert blended_error(2.0, 64, 1.0) == LAWS["reading"].error(2.0, 64)
    assert blended_error(2.0, 64, 0.0) == LAWS["reasoning"].error(2.0, 64)
    assert LAWS["reading"].error(1.0, 576) < LAWS["reading"].error(1.0, 16)


def test_the_search_puts_first_what_meets_the_target():
    ask = Ask(question_tokens=64, output_tokens=8)
    found = search(SHEET, ROUND, ask, Target())
    assert {c.prediction.precision for c in found} == {"fp32", "fp16", "int8", "int4"}
    assert found[0].prediction.precision == "fp32"  # nothing else tells them apart
    slow, fast = (
        predict(SHEET, None, p, ROUND, replace(ask, context=512)) for p in ("fp32", "int8")
    )
    wanted = (slow.answers_per_s + fast.answers_per_s) / 2
    best = search(SHEET, ROUND, ask, Target(fps=wanted))[0]
    assert best.misses == ()
    assert best.prediction.answers_per_s >= wanted
    assert best.prediction.precision != "fp32"
    tight = search(SHEET, ROUND, ask, Target(memory_mb=1.0))[0]
    assert tight.misses == ("memory",)


def test_no_member_of_the_pareto_set_is_beaten():
    found = search(SHEET, ROUND, Ask(question_tokens=64, output_tokens=8), Target())
    best = pareto(found)
    costs = [(c.error, c.prediction.answer_ms, c.prediction.memory.run_mb) for c in best]
    assert len(set(costs)) == len(costs)
    for one in costs:
        others = [c for c in costs if c != one]
        assert not any(all(a <= b for a, b in zip(o, one, strict=True)) for o in others)
    assert [c.prediction.answer_ms for c in best] == sorted(c.prediction.answer_ms for c in best)


def test_the_table_has_every_device_of_the_plan_and_says_where_its_figures_are_from():
    table, where = known(), sources()
    wanted = {
        "orin-nano-8gb-7w", "orin-nano-8gb-15w", "orin-nano-8gb-25w", "orin-nano-8gb-super",
        "orin-nx-8gb", "orin-nx-16gb", "agx-orin-32gb", "agx-orin-64gb", "agx-thor", "rtx-3050",
        "rtx-5090", "raspberry-pi-5",
    }  # fmt: skip
    assert wanted <= table.keys()
    for device in table.values():
        named = {"arithmetic", "bandwidth", "memory", "usable"}
        named |= {"power"} if device.power_w else set()
        named |= {"cma"} if device.cma_mib else set()
        assert device.source.keys() == named
        assert {key for keys in device.source.values() for key in keys.split(", ")} <= where.keys()
    assert all(d.usable_gb < d.memory_gb for d in table.values())
    for name, device in table.items():
        if name.startswith(("orin", "agx-orin")):  # SMs x clock x 2048, as the note says
            sms, mhz = _sms_and_clock(device.note)
            assert device.tensor_tflops == pytest.approx(sms * mhz * 2048e-6, rel=0.02)
            assert device.vector_tflops == pytest.approx(sms * mhz * 256e-6, rel=0.02)


def _sms_and_clock(note: str) -> tuple[int, float]:
    words = note.replace(":", " ").split()
    clock = float(words[3])
    return int(words[0]), clock * (1000 if words[4].startswith("GHz") else 1)


@pytest.mark.parametrize("name", ["orin-nano", "orin-nano-8gb-15", "rtx4090", "raspberry-pi"])
def test_an_unknown_device_is_told_its_neighbours(name: str):
    with pytest.raises(ConfigError) as caught:
        find(name)
    kin = {"orin-nano": "orin-nano-8gb-15w", "orin-nano-8gb-15": "orin-nano-8gb-15w",
           "rtx4090": "rtx-4090", "raspberry-pi": "raspberry-pi-5"}  # fmt: skip
    assert kin[name] in str(caught.value)


def test_published_rows_are_of_known_devices_models_and_sources():
    names, models, where = known(), published.models(), published.sources()
    for row in published.rows():
        assert row.device in names
        assert row.model in models
        assert row.source in where
        assert row.published
    assert len(published.not_compared()) > 5


def test_errors_are_relative_and_the_groups_divide_them():
    found = published.errors()
    assert len(found) == sum(len(row.published) for row in published.rows())
    assert all(math.isfinite(e.error) and e.error > -1 for e in found)
    parts = published.groups(found)
    assert len(parts["fitted on"]) + len(parts["held out"]) == len(found) == len(parts["all"])
    assert not any(e.row.fit for e in parts["held out"])


def test_the_goal_of_a_quarter_holds_where_nothing_was_fitted():
    """A guard on the whole chain: a slip by a factor of two in any formula breaks it."""
    held = published.groups(published.errors())["held out"]
    times = [e for e in held if e.metric != "memory_mb"]
    assert published.median_percent(held) < 25
    assert published.median_percent(times) < 25


def test_a_plot_is_drawn_or_the_remedy_named(tmp_path, monkeypatch):
    from edgevlm.runtime.device.plan.plot import save_plot

    pytest.importorskip("matplotlib")
    found = search(SHEET, ROUND, Ask(question_tokens=64), Target(fps=5.0))
    save_plot(tmp_path / "p.png", "title", found, pareto(found), Target(fps=5.0))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"p\.odd.*png"):
        save_plot(tmp_path / "p.odd", "title", found, pareto(found), Target())
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailable, match=r"edgevlm\[plot\]"):
        save_plot(tmp_path / "q.png", "title", found, pareto(found), Target())


def test_limits_can_be_printed():
    assert json.dumps(Device.model_dump(ROUND, mode="json"))
    assert isinstance(rates(ROUND, PLAIN, "fp32"), Rates)


def test_a_build_takes_what_was_measured_once():
    """135 M parameters in float16, one profile, TensorRT-RTX 1.7.1: 1.33 GB at the peak."""
    smol = DecoderShape(
        layers=30, hidden=576, inner=1536, heads=9, kv_heads=3, head_dim=64, vocab=49152
    )
    sheet = CostSheet(
        name="s", family="llama", parameters=1, decoder=decoder_cost(smol), max_context=1024
    )
    found = memory(sheet, None, "fp16", engine("trt"), context=1024, prompt=512, encoder_count=0)
    assert found.build_mb == pytest.approx(1330, rel=0.05)


def test_float32_runs_as_tf32_on_matrix_units():
    assert (
        rates(ROUND, PLAIN, "fp32").matmul_tflops == rates(ROUND, PLAIN, "fp16").matmul_tflops / 2
    )
