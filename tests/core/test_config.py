"""Settings of a stream: what is taken, what is refused, and what the message says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgevlm.box import load_settings
from edgevlm.config import RunConfig, load_config, make_config
from edgevlm.errors import ConfigError

SMALL = """
bundle = "bundles/nano"
ask = "What is there?"

[source]
uri = "clip.mp4"
"""
FULL = """
name = "door"
bundle = "b"
ask = [{ text = "q", schema = "parts.json" }]
sinks = ["sqlite:events.db"]
record = "recorded"
[source]
uri = "rtsp://camera/1"
realtime = true
reconnect = false
timeout_s = 5.0
[policy]
mode = "freshest"
max_age_s = 0.5
rate_hz = 2
reuse_every_s = 0
spool_mb = 64
spool_dir = "/var/spool/edgevlm"
gate = false
[generation]
max_tokens = 5
temperature = 0.7
top_p = 0.9
seed = 3
system = "Be brief."
schema = "door.json"
draft = false
[window]
seconds = 8
tokens = 64
frames = 4
memory = "frames"
[limits]
frames = 10
duration_s = 1.5
start_s = 60
step_s = 10
answer_s = 90
memory_mb = 4000
[engine]
backend = "ort-cpu"
threads = 2
spin = false
verify = "size"
cpu_fallback = true
isolate = true
trust_engines = true
fallback = "ort-cuda"
visual_tokens = 9
[[rules]]
name = "crowd"
question = "q"
when = ["answer.count >= 3"]
until = ["answer.count <= 1"]
for_s = 2.0
clear_s = 3.0
cooldown_s = 60.0
zone = { left = 0.0, top = 0.5, right = 1.0, bottom = 1.0, boxes = "answer.boxes" }
[[gates]]
kind = "silence"
name = "hourly"
every_s = 3600
[[gates]]
kind = "motion"
name = "arm"
still_s = 1
share = 0.05
ignore = [{left = 0, top = 0, right = 0.2, bottom = 0.1}]
[[gates]]
kind = "pixel"
name = "scene"
blocks = 5
ignore = []
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a config file and give its path."""

    def to_file(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text, "utf-8")
        return path

    return to_file


def refused(path: Path, *settings: str) -> str:
    """The one-line message with which the file is refused."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_said_has_the_documented_default(write: Any):
    config = load_config(write(SMALL))
    assert (config.name, config.bundle, config.source.uri) == ("main", "bundles/nano", "clip.mp4")
    assert config.policy.mode is None
    assert config.policy.gate
    assert config.policy.reuse_every_s == 1.0
    assert (config.generation.temperature, config.generation.top_p) == (0.0, 1.0)
    assert (config.limits.frames, config.limits.duration_s) == (None, None)
    assert (config.engine.backend, config.engine.threads) == ("ort-cpu", 0)


def test_every_key_is_taken_from_the_file(write: Any):
    config = load_config(write(FULL))
    given_keys = config.model_dump(exclude_unset=True)
    others = {"task", "known"}  # go with no window: tests/core/test_tasks.py
    wanted = config.model_dump(exclude=others)
    assert given_keys == wanted, "a key is missing in FULL, or was not read"
    assert config.policy.max_age_s == 0.5
    assert config.generation.system == "Be brief."
    assert config.engine.spin is False


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ("[[gates]]\nkind = 'pixel'\n[[gates]]\nkind = 'pixel'", "two gates are called 'pixel'"),
        ("[[gates]]\nkind = 'silence'\nevery_s = 5", "overrules the gates behind it"),
        ("[[gates]]\nkind = 'silense'", "gates.0: Input tag 'silense'"),
        ("[[gates]]\nkind = 'pixel'\nblocks = 0", "gates.0.pixel.blocks"),
        (
            "[[gates]]\nkind = 'motion'\nignore = [{left=1, top=0, right=0, bottom=1}]",
            "left < right",
        ),
    ],
)
def test_gates_that_cannot_mean_what_they_say_are_refused(write: Any, gates: str, said: str):
    assert said in refused(write(SMALL + gates))


def test_a_config_cannot_be_changed_behind_the_runs_back(write: Any):
    with pytest.raises(ValidationError, match="frozen"):
        load_config(write(SMALL)).ask = "Something else?"


@pytest.mark.parametrize(
    ("line", "place", "near"),
    [
        ("bundel = 'x'", "bundel", "bundle"),
        ("[polcy]\ngate = true", "polcy", "policy"),
        ("[policy]\nmax_age = 1", "policy.max_age", "max_age_s"),
        ("[generation]\nmaxtokens = 1", "generation.maxtokens", "max_tokens"),
        ("[engine]\nbackends = 'x'", "engine.backends", "backend"),
        ("[[gates]]\nkind = 'pixel'\nblock = 1", "gates.0.pixel.block", "blocks"),
        ("[[gates]]\nkind = 'motion'\nstill = 1", "gates.0.motion.still", "still_s"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
    write: Any, line: str, place: str, near: str
):
    text = SMALL + line if line.startswith("[") else line + SMALL
    message = refused(write(text))
    assert f"unknown key {place!r}" in message
    assert f"did you mean {near!r}?" in message


def test_an_unknown_key_like_nothing_else_gets_no_suggestion(write: Any):
    message = refused(write("zzz = 1" + SMALL))
    assert "unknown key 'zzz'" in message
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "line",
    [
        "policy.mode='sometimes'", "policy.max_age_s=0", "policy.max_age_s=-1", "policy.rate_hz=0",
        "policy.rate_hz=nan", "policy.rate_hz=inf", "policy.reuse_every_s=-0.1",
        "policy.gate='maybe'", "generation.max_tokens=0", "generation.max_tokens=1.5",
        "generation.temperature=-1", "generation.temperature=inf", "generation.top_p=0",
        "generation.top_p=1.01", "generation.seed=-1", "generation.seed=0.5", "limits.frames=0",
        "limits.duration_s=0", "engine.threads=-1", "engine.verify='maybe'",
        "ask=[]", "name=''", "source=1", "source.realtime=7",
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_refused_and_its_key_named(write: Any, line: str):
    key = line.partition("=")[0]
    assert f": {key}: " in refused(write(SMALL), line)


def test_a_missing_key_is_named(write: Any):
    assert "source: Field required" in refused(write("bundle='b'\nask='q'"))
    assert "bundle: Field required" in refused(write("ask='q'\n[source]\nuri='0'"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"bundle = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b"[" * 5000, "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
    ],
    ids=["cut", "binary", "twice", "header", "deep"],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "run.toml").write_bytes(content)
    assert message in refused(tmp_path / "run.toml")


def test_a_file_that_is_not_there_is_named_with_the_reason(tmp_path: Path):
    assert "gone.toml cannot be read: No such file" in refused(tmp_path / "gone.toml")
    assert "cannot be read: Is a directory" in refused(tmp_path)


def test_settings_override_the_file_and_the_last_one_wins(write: Any):
    config = load_config(
        write(SMALL),
        ["policy.rate_hz=2", "policy.rate_hz=4.5", "policy.gate=false", "name=door",
         'ask="What is on the table?"', "generation.seed=7"],
    )  # fmt: skip
    assert config.policy.rate_hz == 4.5
    assert config.policy.gate is False
    assert config.name == "door"
    assert [q.text for q in config.ask] == ["What is on the table?"]
    assert config.generation.seed == 7
    assert config.bundle == "bundles/nano"


def test_a_camera_number_stays_text(write: Any):
    assert load_config(write(SMALL), ["source.uri=0"]).source.uri == "0"


def test_an_override_that_is_no_toml_is_text(write: Any):
    config = load_config(write(SMALL), ["ask=Is the door open?", "bundle=/tmp/a=b"])
    assert [q.text for q in config.ask] == ["Is the door open?"]
    assert config.bundle == "/tmp/a=b"


@pytest.mark.parametrize("setting", ["policy.gate", "", "=1", "=", " "])
def test_an_override_without_key_or_value_is_refused(write: Any, setting: str):
    assert "--set takes key=value" in refused(write(SMALL), setting)


def test_an_override_below_a_value_is_refused(write: Any):
    assert "'uri' is not a section" in refused(write(SMALL), "source.uri.port=1")


def test_an_unknown_key_in_an_override_is_named(write: Any):
    assert "did you mean 'gate'?" in refused(write(SMALL), "policy.gates=true")
    assert "unknown key" in refused(write(SMALL), "policy..gate=true")


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_gives_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(SMALL, "utf-8")
    try:
        made = load_config(path, [f"{key}={value}"])
    except ConfigError:
        return
    assert isinstance(made, RunConfig)


def test_a_mapping_is_checked_as_a_file_is():
    raw = {"bundle": "b", "ask": "q", "source": {"uri": "0"}}
    assert make_config(raw).source.uri == "0"
    with pytest.raises(ConfigError, match=r"the options: unknown key 'policy\.gat'"):
        make_config({**raw, "policy": {"gat": True}})


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.toml")), ids=lambda p: p.name
)
def test_a_shipped_config_is_valid(path: Path):
    assert load_settings(path).bundle
