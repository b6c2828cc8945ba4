"""The command that trains nano, from pictures to weights that the export takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from edgevlm.errors import ConfigError
from edgevlm.export.nano_train.settings import read_settings

SMALL = """
checked = 4
[pictures]
cut_outs = 250
others = 250
[first]
steps = 2
batch = 8
[second]
steps = 2
batch = 4
imagined = 1
questions = 2
"""


def test_a_key_that_does_not_exist_is_named(tmp_path: Path):
    path = tmp_path / "train.toml"
    path.write_text("[first]\nstep = 3\n")
    with pytest.raises(ConfigError, match="step"):
        read_settings(path)
    with pytest.raises(ConfigError, match="cannot be used"):
        read_settings(tmp_path / "none.toml")


@pytest.mark.slow
def test_two_steps_of_each_lesson_give_weights_that_fit(tmp_path: Path):
    config = tmp_path / "train.toml"
    config.write_text(SMALL)
    command = [sys.executable, "-m", "edgevlm.export.nano_train", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--config", str(config)], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    for name, tensors in (("heads", 68), ("lora", 30 * 7 * 2)):
        with safe_open(tmp_path / f"run/{name}.safetensors", "np") as file:
            assert len(list(file.keys())) == tensors
            assert not name.startswith("lora") or file.metadata()["r"] == "16"
    rows = (tmp_path / "run/second.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2]
    assert (tmp_path / "run/curves.png").is_file()
    rates = json.loads((tmp_path / "run/check.json").read_text())
    assert rates["right"].keys() == rates["right about another picture"].keys() != set()
    assert all(0 <= rate <= 1 for kinds in rates.values() for rate in kinds.values())
