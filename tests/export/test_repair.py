"""Repair: a precision that misses a gate keeps the layers that drift most in a higher one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from docs.widths import even_widths
from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import ParityError
from edgevlm.export import settings
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.repair.choice import Raising
from edgevlm.export.repair.comparison import Layer
from edgevlm.parity import GATE_COSINE
from tests.export import tiny
from tests.export.encoders import tiny as encoders
from tests.export.encoders import tiny_sam_clip
from tests.export.tiny import Checkpoint, bundle_logits, contents, export_to, refused, torch_logits

pytestmark = pytest.mark.timeout(120)

Change = Callable[[dict[str, Any]], None]
NEAREST = {"precision": "int4", "calibrate": False}  # what repair is about is seen sooner
IDS = list(range(20, 60))


def changed(made: Any, change: Change) -> Any:
    """The checkpoint with other weights, which its model has too."""
    state = {name: value.clone() for name, value in made.model.state_dict().items()}
    change(state)
    made.model.load_state_dict(state)
    made.model.save_pretrained(made.folder)
    return made


def outliers(state: dict[str, Any]) -> None:
    """Large weights that meet inputs that are always zero: in 4 bits nothing is left beside them.

    They are in the output projections of both layers, and in ``down_proj`` of the second.
    """
    for name, value in state.items():
        if "gate_proj" in name or "v_proj" in name:
            value[::16] = 0
        elif "layers.1.mlp.down_proj" in name or "o_proj" in name:
            value[:, ::16] = 4


HURT = {f"layers.{n}.self_attn.o_proj" for n in range(2)} | {"layers.1.mlp.down_proj"}


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    made = tiny.save(tmp_path_factory.mktemp("rough") / "model", tiny.config("llama"))
    return changed(made, outliers)


@pytest.fixture(scope="module")
def repaired(rough: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_to(rough.folder, tmp_path_factory.mktemp("repaired") / "bundle", **NEAREST)


def kept_higher(bundle: Bundle, graph: str, default: str) -> dict[str, str]:
    """The exceptions of a graph that its precision does not have anyway."""
    always = {"embed_tokens", "lm_head"}
    return {
        name: precision
        for name, precision in bundle.manifest.graphs[graph].exceptions.items()
        if name not in always
        and precision != default
        and not name.endswith(("q_proj", "k_proj", "v_proj"))
    }


def stored_bytes(bundle: Bundle) -> int:
    """Of all weights of the manifest."""
    entries = bundle.manifest.weights.values()
    parts = [s for e in entries for s in (e.values, e.scales, e.zeros) if s is not None]
    return sum(s.nbytes for s in parts)


def test_the_layers_that_drift_most_are_kept_in_8_bits(
    rough: Checkpoint, repaired: Bundle, tmp_path: Path
):
    missed = export_to(
        rough.folder, tmp_path / "missed", repair_budget=0, allow_drift=True, **NEAREST
    )
    assert not missed.manifest.parity.passed
    assert repaired.manifest.parity.passed
    assert kept_higher(missed, "decoder", "int4") == {}
    raised = kept_higher(repaired, "decoder", "int4")
    assert {name: raised.get(name) for name in HURT} == dict.fromkeys(HURT, "int8")
    assert len(raised) < 10  # of all the layers' matrices
    rounding, note = repaired.manifest.graphs["decoder"].notes
    assert rounding == "4-bit weights rounded to nearest"
    assert note.startswith("repaired: the layers that drift most are kept higher (")
    assert 1 < stored_bytes(repaired) / stored_bytes(missed) < 1.25
    wanted = torch_logits(rough.model, IDS)
    far, near = (np.abs(bundle_logits(b, IDS) - wanted).max() for b in (missed, repaired))
    assert near < far / 2


def test_what_is_accepted_below_its_gates_is_repaired_as_far_as_the_budget_goes(
    rough: Checkpoint, tmp_path: Path
):
    bundle = export_to(
        rough.folder, tmp_path / "bundle", repair_budget=0.02, allow_drift=True, **NEAREST
    )
    assert not bundle.manifest.parity.passed
    raised = kept_higher(bundle, "decoder", "int4")
    assert len(raised) == 1
    assert raised.keys() <= HURT


@pytest.fixture
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVLM_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_store")
def test_an_interrupted_repair_is_resumed_to_the_same_bytes(
    rough: Checkpoint, repaired: Bundle, tmp_path: Path
):
    options = ExportOptions(resume=True, **NEAREST)
    parities: list[str] = []

    def interrupt(_done: int, _total: int, what: str) -> None:
        parities.extend([what] * (what == "parity"))
        if len(parities) == 2:  # behind the first round of repair
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(str(rough.folder), tmp_path / "bundle", options, interrupt)
    assert not (tmp_path / "bundle").exists()
    told: list[str] = []
    export(str(rough.folder), tmp_path / "bundle", options, lambda *step: told.append(step[2]))
    assert told.count("decoder from an earlier try") == 2
    assert not any(what.startswith("layer ") for what in told)
    assert contents(tmp_path / "bundle") == contents(repaired.root)


@pytest.mark.usefixtures("_store")
def test_a_budget_that_does_not_suffice_writes_nothing_and_a_larger_one_goes_on(
    rough: Checkpoint, tmp_path: Path
):
    target = tmp_path / "target"
    target.mkdir()
    error = refused(rough.folder, target, repair_budget=0.02, resume=True, **NEAREST)
    assert isinstance(error, ParityError)
    said = str(error)
    assert "ort-cpu: logits" in said
    assert "keeping 1 layers of decoder in a higher precision, within 2 % of its size" in said
    assert "was not enough" in said
    told: list[str] = []
    options = ExportOptions(resume=True, **NEAREST)
    done = export(str(rough.folder), tmp_path / "bundle", options, lambda *s: told.append(s[2]))
    assert done.manifest.parity.passed
    assert "decoder from an earlier try" in told


def test_inspect_says_what_was_kept(repaired: Bundle, capfd: pytest.CaptureFixture[str]):
    assert run_command(["inspect", str(repaired.root)]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "the layers that drift most are kept higher" in shown
    assert run_command(["inspect", str(repaired.root), "--json"]) == 0
    _, note = json.loads(capfd.readouterr().out)["graphs"]["decoder"]["notes"]
    assert note.startswith("repaired: ")


def test_the_command_says_what_was_kept(
    rough: Checkpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ["export", str(rough.folder), "-o", str(tmp_path / "bundle"), "--precision", "int4"]
    with mock.patch.object(settings, "tokens_within", return_value=0):
        assert run_command([*words, "--repair-budget", "0.3", "--json"]) == 0
    out, err = capfd.readouterr()
    assert "the layers that drift most are kept higher" in " ".join(err.split())
    assert "in int8" in json.loads(out)["repairs"]["decoder"]
    assert run_command([*words, "--repair-budget", "1.5"]) == 2


# Encoders.


def hurt_tower(state: dict[str, Any]) -> None:
    """Units of the first MLP that are always zero, with large weights behind them."""
    for name, value in state.items():
        if "layer.0.mlp.fc1" in name:
            value[::16] = 0
        elif name.endswith("layer.0.mlp.fc2.weight"):
            value[:, ::16] = 300


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> encoders.Tiny:
    folder = tmp_path_factory.mktemp("tower") / "model"
    wide = {"hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 3}
    with mock.patch.dict(encoders.VISION_CONFIG, wide):
        return changed(encoders.dinov2(folder), hurt_tower)


def test_layers_of_an_encoder_are_kept_too(tower: encoders.Tiny, tmp_path: Path):
    bundle = export_to(tower.folder, tmp_path / "bundle", precision="int8")
    assert bundle.manifest.parity.passed
    hurt = "encoder.layer.0.mlp.fc2"
    assert bundle.manifest.graphs["vision"].exceptions[hurt] == "fp16"
    assert bundle.manifest.graphs["vision"].notes[0].startswith("repaired: ")
    stored = bundle.manifest.weights["vision.blocks.0.mlp.down"]
    assert stored.values.dtype == "float16"
    found = bundle.read_json("parity.json")["backends"][0]
    assert all(s["cosine"] >= GATE_COSINE["int8"] for s in found["stages"] if s["gate_cosine"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_layers_of_a_mask_head_and_of_the_encoder_before_it_are_kept(tmp_path: Path):
    with even_widths():
        tiny_sam_clip.sam_clip(tmp_path / "checkpoint")
    error = refused(tmp_path / "checkpoint", tmp_path, precision="int8", repair_budget=0)
    assert "mask.scores" in str(error)
    bundle = export_to(tmp_path / "checkpoint", tmp_path / "bundle", precision="int8")
    assert bundle.manifest.parity.passed
    for graph in ("vision", "heads/mask"):
        assert bundle.manifest.graphs[graph].notes[0].startswith("repaired: ")
    assert bundle.manifest.graphs["text"].notes == ()


# Half precision.


def test_a_residual_stream_that_overflows_in_half_is_kept_in_float32(tmp_path: Path):
    """One channel far above all others, as large models have it."""

    def change(state: dict[str, Any]) -> None:
        for n in range(3):
            state[f"model.layers.{n}.mlp.down_proj.bias"][3] += 40_000

    shape = tiny.config("llama", mlp_bias=True, num_hidden_layers=3)
    made = changed(tiny.save(tmp_path / "model", shape), change)
    error = refused(made.folder, tmp_path, precision="fp16", repair_budget=0, allow_drift=True)
    assert "KL nan nats" in str(error)
    assert "--allow-drift" not in str(error)
    bundle = export_to(made.folder, tmp_path / "bundle", precision="fp16")
    graph = bundle.manifest.graphs["decoder"]
    assert graph.exceptions == dict.fromkeys(("norms", "softmax", "residual", "cache"), "fp32")
    assert graph.notes == ("repaired: norms, softmax, the residual stream and the cache in fp32",)
    assert bundle.manifest.kv.dtype == "float32"
    assert bundle.manifest.weights["layers.0.attn.qkv"].values.dtype == "float16"
    assert bundle.manifest.weights["embedding"].values.dtype == "float16"
    wanted = torch_logits(made.model, IDS)
    assert np.abs(bundle_logits(bundle, IDS) - wanted).max() < 0.02 * np.abs(wanted).max()


def test_weights_beyond_the_range_of_half_are_kept_in_float32(tmp_path: Path):
    def change(state: dict[str, Any]) -> None:
        state["model.layers.0.mlp.up_proj.weight"] *= 1e6
        state["model.layers.0.mlp.down_proj.weight"] *= 1e-6

    made = changed(tiny.save(tmp_path / "model", tiny.config("llama")), change)
    bundle = export_to(made.folder, tmp_path / "bundle", precision="fp16")
    kept = bundle.manifest.graphs["decoder"].exceptions
    names = {f"layers.0.mlp.{part}_proj" for part in ("gate", "up", "down")}
    assert {kept.get(name) for name in names} == {"fp32"}
    wanted = torch_logits(made.model, IDS)
    assert np.abs(bundle_logits(bundle, IDS) - wanted).max() < 0.02 * np.abs(wanted).max()


# What is chosen.


def layers(*drifts: float, values: int = 1000) -> tuple[list[Layer], dict[tuple[str, str], float]]:
    made = [
        Layer(graph="decoder", label=f"{n}", names=(f"w{n}",), precision="int4", values=values)
        for n in range(len(drifts))
    ]
    return made, {("decoder", f"{n}"): drift for n, drift in enumerate(drifts)}


def test_rounds_spend_the_budget_bit_by_bit():
    made, drift = layers(0.1, 0.4, 0.2, 0.3)
    plan = PrecisionPlan(default="int4")
    cost = 1000 * (plan.bytes_each("int8") - plan.bytes_each("int4"))
    raising = Raising(made, drift, {"decoder": 4 * cost + 1}, plan)
    chosen = []
    for number in range(3):
        assert raising.next_round(number, {"decoder"}) == {"decoder"}
        chosen.append(set(raising.overrides()))
    assert chosen == [{"w1"}, {"w1", "w3"}, {"w0", "w1", "w2", "w3"}]
    assert raising.next_round(2, {"decoder"}) == set()
    assert raising.spent["decoder"] == pytest.approx(4 * cost)


def test_a_round_whose_share_buys_nothing_takes_more_of_the_budget():
    made, drift = layers(0.1)
    raising = Raising(made, drift, {"decoder": 600.0}, PrecisionPlan(default="int4"))
    assert raising.next_round(0, {"decoder"}) == {"decoder"}
    assert raising.overrides() == {"w0": "int8"}


def test_a_layer_that_gives_no_numbers_goes_first_and_all_the_way():
    made, drift = layers(0.1, float("nan"))
    raising = Raising(made, drift, {"decoder": 4000.0}, PrecisionPlan(default="int4"))
    assert raising.next_round(2, {"decoder"}) == {"decoder"}
    assert raising.overrides()["w1"] == "fp32"


def test_what_holds_is_left_alone():
    made, drift = layers(0.1)
    raising = Raising(made, drift, {"decoder": 4000.0}, PrecisionPlan(default="int4"))
    assert raising.next_round(0, {"vision"}) == set()
    assert raising.overrides() == {}
