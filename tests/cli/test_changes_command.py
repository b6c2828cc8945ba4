from __future__ import annotations

import json

import pytest

from edgevlm.runtime.stream.sinks import open_sinks
from tests.runtime.stream.told import told

SINCE = ["--since", "2026-01-01T00:00:30Z", "--until", "2026-01-01T01:00:00Z"]


@pytest.fixture
def filled(tmp_path):
    with open_sinks([f"sqlite:{tmp_path / 'events.db'}"]) as (store,):
        for item in (told(0), told(1, "a dog", at_s=60), told(2, "a dog", at_s=90)):
            store.write(item)
    return tmp_path


def test_a_sentence_a_stream_with_the_pictures_that_prove_it(edgevlm, filled):
    done = edgevlm("changes", "events.db", *SINCE, "--thumbnails", "shown")
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'main: "a cat" became "a dog" at 2026-01-01T00:01:00.000Z.\n'
    shown = sorted(path.name.rsplit("-", 1)[1] for path in (filled / "shown").iterdir())
    assert shown == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.usefixtures("filled")
def test_the_facts_as_json(edgevlm):
    done = edgevlm("changes", "events.db", *SINCE, "--json")
    facts = json.loads(done.stdout)
    assert (facts["stream"], facts["answers"], facts["different"]) == ("main", 2, 1)
    assert facts["changes"][0]["after"]["says"] == "a dog"
    assert facts["text"] is None


@pytest.mark.usefixtures("filled")
def test_a_model_says_it_from_the_facts_and_the_pictures(edgevlm, nano):
    done = edgevlm("changes", "events.db", *SINCE, "-b", nano.root, "--max-tokens", "8", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["text"]
    assert facts["facts"].startswith('main: "a cat" became "a dog"')


@pytest.mark.usefixtures("filled")
def test_what_cannot_be_answered_is_refused(edgevlm):
    assert edgevlm("changes", "events.db").returncode == 2
    asked = edgevlm("changes", "events.db", *SINCE, "--ask", "Who came?")
    assert asked.returncode == 2
    assert "--bundle" in asked.stderr
    assert edgevlm("changes", "none.db", *SINCE).returncode == 1
