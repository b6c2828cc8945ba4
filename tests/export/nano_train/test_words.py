"""What tokens are to say of things."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevlm.export.nano_train.words import Lexicon, Words, centres


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    from edgevlm.export.gguf_file import GgufFile
    from edgevlm.export.nano import packages
    from edgevlm.export.tokenizer_gguf import build_tokenizer

    gguf = GgufFile(packages.DECODER.locate())
    table = np.asarray(gguf.get("embed_tokens.weight"), np.float32)
    words = Words(table, build_tokenizer(gguf.metadata))
    return Lexicon(words, ["zebra", "great blue heron", "fox"], ["tabby cat"])


def test_a_things_own_name_weighs_most_and_all_its_names_sum_to_one(lexicon):
    heron = lexicon.targets[lexicon.things["great blue heron"]]
    assert heron.sum().item() == pytest.approx(1)
    assert lexicon.names[int(heron.argmax())] == "great blue heron"
    assert heron[lexicon.place["bird"]] > 0
    assert heron[lexicon.place["zebra"]] == 0


def test_centres_are_counted_where_they_are():
    cover = torch.zeros(1, 3, 28, 28)
    cover[0, 0, 2:6, 2:6] = 1  # top left
    cover[0, 1, 4:8, 8:12] = 0.5  # top left too, half covered
    cover[0, 2, 20:26, 16:26] = 1  # bottom right
    assert centres(cover, 2).tolist() == [[2, 0, 0, 1]]
    assert centres(cover, 1).tolist() == [[3]]


def test_a_token_says_what_its_window_shows(lexicon):
    cover = torch.zeros(1, 2, 28, 28)
    cover[0, 0, :14, :14] = 1
    cover[0, 1, 14:, 14:] = 1
    things = torch.stack([lexicon.thing("zebra", None), lexicon.thing("fox", "red")])[None]
    said = lexicon.tokens(cover, things, 2)[0]
    scores = said @ lexicon.directions.T
    best = [lexicon.names[int(n)] for n in scores.argmax(1)]
    assert best[0] == "zebra"
    assert best[3] == "fox"
    assert best[1] == best[2] == "background"
    red = said @ lexicon.colours[4]
    assert red.argmax() == 3
