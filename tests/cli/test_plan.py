"""``edgevlm plan`` and ``edgevlm list devices`` as a shell sees them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.cli.app import run_command


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = run_command(list(map(str, words)))
    out, err = capfd.readouterr()
    return code, out, err


def test_a_bundle_is_planned_in_its_own_precision(tiny: Bundle, capfd: pytest.CaptureFixture[str]):
    code, out, err = run(capfd, "plan", tiny.root, "--device", "orin-nx-16gb", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [p["precision"] for p in found["predictions"]] == ["fp32"]
    assert found["device"]["title"].startswith("Jetson Orin NX")
    assert found["predictions"][0]["context"] == tiny.manifest.language.kv.capacity


def test_a_table_says_what_it_is_worth(tiny: Bundle, capfd: pytest.CaptureFixture[str]):
    code, out, _ = run(capfd, "plan", tiny.root, "--device", "orin-nx-16gb")
    assert code == 0
    assert "fits" in out
    assert "median error" in out
    code, out, _ = run(capfd, "plan", tiny.root, "--device", "raspberry-pi-5")
    assert "no published figure" in out


def test_a_search_prints_the_pareto_set_and_writes_the_plot(
    tiny: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    pytest.importorskip("matplotlib")
    source, plot = tiny.root.parent / "checkpoint", tmp_path / "p.svg"
    words = ("plan", source, "--device", "rtx-3050", "--fps", "1", "-o", plot)
    code, out, _ = run(capfd, *words)
    assert code == 0
    assert "best setting: --precision fp32" in out
    assert "Pareto set" in out
    assert plot.stat().st_size
    code, out, _ = run(capfd, *words[:4], "--memory-mb", "1", "--json")
    assert (code, json.loads(out)["best"]) == (0, None)


def test_the_check_prints_every_error_and_the_medians(capfd: pytest.CaptureFixture[str]):
    code, out, err = run(capfd, "plan", "--check", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert {e["figure"] for e in found["errors"]} >= {"encode_ms", "decode_tokens_per_s"}
    assert found["medians"]["held out"]["figures"] < found["medians"]["all"]["figures"]
    code, out, _ = run(capfd, "plan", "--check")
    assert "held out: median error" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plan"], 2, "name a bundle or a checkpoint"),
        (["plan", "TINY", "--device", "orin-nano"], 2, "orin-nano-8gb-15w"),
        (["plan", "TINY", "--device", "agx-thor", "--frame", "big"], 2, "WIDTHxHEIGHT"),
        (["plan", "TINY", "--device", "agx-thor", "--tokens", "4"], 2, "is a bundle"),
        (["plan", "TINY", "--device", "agx-thor", "--context", "9999"], 2, "cache holds"),
        (["plan", "/nowhere", "--device", "agx-thor"], 1, "neither 'nano' nor a checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_asks_say_what_was_wanted(
    words: list[str], code: int, said: str, tiny: Bundle, capfd: pytest.CaptureFixture[str]
):
    found = run(capfd, *(tiny.root if w == "TINY" else w for w in words))
    assert found[0] == code
    assert found[1] == ""
    assert said in found[2]
    assert found[2].count("\n") == 1


def test_devices_are_listed_with_their_sources(capfd: pytest.CaptureFixture[str]):
    code, out, _ = run(capfd, "list", "devices", "--json")
    found = json.loads(out)
    assert code == 0
    assert "orin-nano-8gb-15w" in {d["name"] for d in found["devices"]}
    assert all(
        key in found["sources"]
        for d in found["devices"]
        for key in d["source"]["memory"].split(", ")
    )
    code, out, _ = run(capfd, "list", "devices")
    assert "raspberry-pi-5" in out
    assert "this machine" in out


def test_without_onnx_the_remedy_is_named(
    tiny: Bundle, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = run(capfd, "plan", tiny.root, "--device", "agx-thor")
    assert (code, out) == (1, "")
    assert "pip install 'edgevlm[nano]'" in err
