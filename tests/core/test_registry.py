"""Finding an implementation by name, without importing the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from edgevlm.errors import ConfigError
from edgevlm.registry import BACKENDS, Entry, Registry

TABLE = Registry(
    "colours",
    {
        "red": Entry("colorsys:rgb_to_hls", "a real function"),
        "green": Entry("a_module_that_is_not_there:thing", "never imported unless asked for"),
    },
)


def test_only_what_is_asked_for_is_imported():
    import colorsys

    assert TABLE.resolve("red") is colorsys.rgb_to_hls
    with pytest.raises(ModuleNotFoundError):
        TABLE.resolve("green")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ConfigError) as caught:
        TABLE.resolve("gren")
    assert str(caught.value) == (
        "unknown name 'gren' among the colours: red, green; did you mean 'green'?"
    )


def test_an_unknown_name_like_nothing_else_gets_no_suggestion():
    with pytest.raises(ConfigError, match=r"among the colours: red, green$"):
        TABLE.resolve("7")


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution that adds a backend and claims a built-in name."""
    made = tmp_path / "third_party-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(
        "[edgevlm.backends]\ntheirs = third_party_backend:Backend\n"
        "ort-cpu = third_party_backend:Backend\n"
    )
    (tmp_path / "third_party_backend.py").write_text("class Backend:\n    name = 'theirs'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert PathDistribution(made).name == "third-party"
    yield tmp_path
    sys.modules.pop("third_party_backend", None)


@pytest.mark.usefixtures("third_party")
def test_a_third_party_adds_a_name_and_cannot_take_a_built_in_one():
    known = BACKENDS.known()
    assert known["theirs"].summary == "from third-party"
    assert BACKENDS.resolve("theirs").name == "theirs"
    assert BACKENDS.resolve("ort-cpu").__module__ == "edgevlm.runtime.backends.ort_cpu"


def test_without_the_third_party_its_name_is_unknown():
    with pytest.raises(ConfigError):
        BACKENDS.resolve("theirs")
