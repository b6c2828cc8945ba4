"""Scenes that no picture shows, told in words: the second lesson reads more names than it sees.

Cut-outs show a few hundred kinds. A token that says a name in the language model's own words can
say any name, so things are imagined in places, and the tokens that would tell of them are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgevlm.colour import COLOURS
from edgevlm.export.nano_data.composition import box_of
from edgevlm.export.nano_data.picture import Picture, SeenThing
from edgevlm.export.nano_data.scenes import MOST
from edgevlm.export.nano_train.cache import COVER
from edgevlm.export.nano_train.words import Lexicon

_NOISE = (0.2, 0.9)  # length of what is wrong with a token, in units of a word's
_TRIES = 30


@dataclass(frozen=True, slots=True, eq=False)
class Imagined:
    """A scene in words.

    Args:
        picture: black, with its things.
        cover: float32 ``(MOST, COVER, COVER)``.
        directions: float32 ``(MOST, hidden)``.
    """

    picture: Picture
    cover: Tensor
    directions: Tensor


def imagine(
    lexicon: Lexicon, names: Sequence[str], rng: np.random.Generator, most: int = MOST
) -> Imagined:
    """One to ``most`` things as ellipses that do not touch.

    Args:
        lexicon: directions of names and colours.
        names: to choose from.
        rng: chooses.
        most: things, at most ``MOST``.
    """
    count = min(most, int(rng.choice(MOST, p=[0.25, 0.25, 0.2, 0.2, 0.1])) + 1)
    first = names[int(rng.integers(len(names)))]
    same = int(rng.integers(2, count + 1)) if count > 1 and rng.random() < 0.45 else 1
    chosen = [first] * same
    chosen += [names[int(rng.integers(len(names)))] for _ in range(count - same)]
    cover = torch.zeros(MOST, COVER, COVER)
    directions = torch.zeros(MOST, lexicon.directions.shape[1])
    things: list[SeenThing] = []
    taken = np.zeros((COVER, COVER), np.bool_)
    for name in chosen:
        mask = _ellipse(taken, 0.9 / count**0.5, rng)
        if mask is None or (box := box_of(mask)) is None:
            continue
        taken |= mask
        colour = str(rng.choice(COLOURS)) if rng.random() < 0.7 else None
        cover[len(things)] = torch.as_tensor(mask.astype(np.float32))
        directions[len(things)] = lexicon.thing(name, colour)
        things.append(SeenThing(name=name, group="", colour=colour, box_xyxy=box, mask=mask))
    black = np.zeros((COVER, COVER, 3), np.uint8)
    picture = Picture(image_rgb=black, family="cut-outs", scene="imagined", things=tuple(things))
    return Imagined(picture, cover, directions)


def _ellipse(
    taken: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], largest: float, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
    y, x = np.mgrid[:COVER, :COVER] + 0.5
    for _ in range(_TRIES):
        width, height = COVER * rng.uniform(0.18, max(0.25, largest * 0.7), 2) / 2
        cx, cy = rng.uniform(width, COVER - width), rng.uniform(height, COVER - height)
        mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ((x - cx) / width) ** 2 + (
            (y - cy) / height
        ) ** 2 <= 1
        if not (mask & taken).any():
            return mask
    return None


def imagined_tokens(
    lexicon: Lexicon, scenes: Sequence[Imagined], side: int, rng: np.random.Generator
) -> Tensor:
    """What a connector would say of them, with something wrong, ``(scenes, side^2, hidden)``."""
    cover = torch.stack([s.cover for s in scenes])
    said = lexicon.tokens(cover, torch.stack([s.directions for s in scenes]), side)
    noise = torch.as_tensor(rng.normal(size=said.shape).astype(np.float32))
    lengths = torch.as_tensor(rng.uniform(*_NOISE, (len(scenes), 1, 1)).astype(np.float32))
    said = said + noise * lengths / said.shape[-1] ** 0.5
    return lexicon.centre + lexicon.length * said
