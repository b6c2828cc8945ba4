"""Things in the language model's own words: what a visual token should say.

A token that says "red fox, two of them" is the sum of the word embeddings of ``fox``, ``red`` and
``two``, each taken around the mean of all words. The language model reads such sums without having
been trained for them (see ``export/nano/connector.py``); training starts from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from edgevlm.colour import COLOURS
from edgevlm.export.nano_data.english import NUMBERS
from edgevlm.export.nano_data.names import also_called
from edgevlm.tensors import Float32

BACKGROUND = "background"
OWN_NAME = 0.7  # of a target's weight; the rest is shared by what else it is called
NAME, COLOUR, NUMBER = 1.0, 0.6, 0.6  # lengths of the parts of a token
FULL = 0.35  # share of a window that a thing must cover to be told with its whole length


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Mean embeddings of names.

    Args:
        table: of the language model, float32 ``(vocabulary, hidden)``.
        tokenizer: of it.
    """

    table: Float32
    tokenizer: Tokenizer

    def mean(self, names: Sequence[str]) -> Tensor:
        """Float32 ``(names, hidden)``: every name behind a space, its tokens averaged."""
        rows = [self.table[self.tokenizer.encode(f" {name}").ids].mean(0) for name in names]
        return torch.as_tensor(np.stack(rows))


class Lexicon:
    """Names with targets for them, and the directions of names, colours and numbers.

    Args:
        words: embeddings.
        things: names that pictures are made of.
        others: further names that no picture shows, ImageNet's.
    """

    def __init__(self, words: Words, things: Sequence[str], others: Sequence[str]) -> None:
        general = sorted({word for name in things for word in also_called(name)})
        self.names = tuple(dict.fromkeys([BACKGROUND, *things, *general, *others]))
        self.place = {name: n for n, name in enumerate(self.names)}
        self.means = words.mean(self.names)
        self.centre = torch.as_tensor(words.table.mean(0))
        self.length = float(np.linalg.norm(words.table - words.table.mean(0), axis=1).mean())
        self.directions = functional.normalize(self.means - self.centre, dim=1)
        self.colours = self._directions(words, COLOURS)
        self.numbers = self._directions(words, NUMBERS)
        self.targets = torch.zeros(len(things) + 1, len(self.names))
        self.things = {name: n for n, name in enumerate([BACKGROUND, *things])}
        for name, n in self.things.items():
            also = [self.place[w] for w in also_called(name) if w in self.place and w != name]
            self.targets[n, self.place[name]] = OWN_NAME if also else 1.0
            for place in also:
                self.targets[n, place] += (1 - OWN_NAME) / len(also)

    def _directions(self, words: Words, names: Sequence[str]) -> Tensor:
        return functional.normalize(words.mean(names) - self.centre, dim=1)

    def thing(self, name: str, colour: str | None) -> Tensor:
        """What a thing adds to a token, float32 ``(hidden,)``, in units of ``length``."""
        found = NAME * self.directions[self.place[name]]
        if colour is not None:
            found = found + COLOUR * self.colours[COLOURS.index(colour)]
        return found

    def tokens(self, cover: Tensor, things: Tensor, side: int) -> Tensor:
        """Target tokens of some pictures, ``(batch, side^2, hidden)`` around zero.

        Args:
            cover: share of each cell that a thing covers, ``(batch, most, cells, cells)``.
            things: from ``thing``, zeros where there is none, ``(batch, most, hidden)``.
            side: windows along one side.
        """
        shares = functional.adaptive_avg_pool2d(cover, side).flatten(2)  # (batch, most, windows)
        weight = (shares / FULL).clamp(max=1)
        found = weight.transpose(1, 2) @ things
        background = (1 - shares.sum(1)).clamp(0, 1)[..., None]
        found = found + 0.5 * background * self.directions[self.place[BACKGROUND]]
        number = self.numbers[centres(cover, side).clamp(max=len(NUMBERS) - 1)]
        return found + NUMBER * number


def centres(cover: Tensor, side: int) -> Tensor:
    """How many things have their centre in each window, int64 ``(batch, side^2)``."""
    batch, _, cells, _ = cover.shape
    steps = (torch.arange(cells) + 0.5) / cells
    mass = cover.sum((2, 3))
    x = (cover.sum(2) @ steps) / mass.clamp(min=1e-6)
    y = (cover.sum(3) @ steps) / mass.clamp(min=1e-6)
    at = (y * side).long().clamp(max=side - 1) * side + (x * side).long().clamp(max=side - 1)
    found = torch.zeros(batch, side * side, dtype=torch.int64)
    return found.scatter_add(1, at, (mass > 0).long())
