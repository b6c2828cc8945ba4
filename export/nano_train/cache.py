"""Training pictures as the encoder sees them, kept on disk: made once, resumable, in shards.

A shard is a folder with arrays and ``told.json``; it is complete when it has its final name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgevlm.export.nano import packages
from edgevlm.export.nano_data.picture import Picture, Question
from edgevlm.export.nano_data.scenes import MOST
from edgevlm.export.nano_train.sources import training_picture
from edgevlm.export.nano_train.trunk import FrozenTrunk
from edgevlm.tensors import Array

SHARD = 250
COVER = 28  # cells along one side of what things cover
LABELS = 3
ARRAYS = ("fine", "middle", "narrow", "cover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a picture without its pixels.

    Args:
        names: of its things, in the order of ``cover``.
        colours: of them; None where no colour prevails.
        labels: the encoder's own best classes with their probabilities, the best first.
        questions: about it.
    """

    names: tuple[str, ...]
    colours: tuple[str | None, ...]
    labels: tuple[tuple[str, float], ...]
    questions: tuple[Question, ...]


def fill(folder: Path, kind: str, count: int, seed: int, workers: int) -> Iterator[int]:
    """Make every shard that is missing.

    Args:
        folder: of the cache.
        kind: of the pictures, as in ``sources``.
        count: pictures, a multiple of ``SHARD``.
        seed: of the pictures.
        workers: processes, one thread each.

    Yields:
        how many pictures are there, after every shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(count // SHARD)
    missing = [n for n in numbers if not shard_path(folder, n).is_dir()]
    done = count - SHARD * len(missing)
    yield done
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_make, [(folder, kind, n, seed) for n in missing]):
            done += SHARD
            yield done


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{number:05d}"


def _make(order: tuple[Path, str, int, int]) -> None:
    folder, kind, number, seed = order
    arrays: dict[str, list[Array]] = {name: [] for name in ARRAYS}
    told = []
    for n in range(number * SHARD, (number + 1) * SHARD):
        picture, questions = training_picture(kind, n, seed)
        stages = _trunk().run(picture.image_rgb)
        for name in ARRAYS[:3]:
            arrays[name].append(getattr(stages, name).astype(np.float16))
        arrays["cover"].append(_cover(picture))
        best = np.argsort(-stages.class_probabilities)[:LABELS]
        told.append(
            Told(
                names=tuple(t.name for t in picture.things[:MOST]),
                colours=tuple(t.colour for t in picture.things[:MOST]),
                labels=tuple(
                    (_class_names()[k], float(stages.class_probabilities[k])) for k in best
                ),
                questions=tuple(questions),
            )
        )
    part = folder / f".{number:05d}.{os.getpid()}"
    part.mkdir()
    for name, values in arrays.items():
        np.save(part / f"{name}.npy", np.stack(values))
    (part / "told.json").write_text(json.dumps([asdict(t) for t in told]), "utf-8")
    part.rename(shard_path(folder, number))


@lru_cache(maxsize=1)
def _trunk() -> FrozenTrunk:
    return FrozenTrunk()


@lru_cache(maxsize=1)
def _class_names() -> list[str]:
    return packages.class_names()


def _cover(picture: Picture) -> Array:
    """How much of each cell every thing covers, uint8 ``(MOST, COVER, COVER)``, 255 for all."""
    found = np.zeros((MOST, COVER, COVER), np.uint8)
    for n, thing in enumerate(picture.things[:MOST]):
        mask = Image.fromarray(thing.mask.astype(np.uint8) * 255)
        found[n] = np.asarray(mask.resize((COVER, COVER), Image.Resampling.BOX))
    return found


class Cache:
    """Reads complete shards.

    Args:
        folder: of the cache.
        count: pictures that are wanted.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self._arrays: list[dict[str, Array]] = []
        self.told: list[Told] = []
        for number in range(count // SHARD):
            path = shard_path(folder, number)
            self._arrays.append({n: np.load(path / f"{n}.npy", mmap_mode="r") for n in ARRAYS})
            rows = json.loads((path / "told.json").read_text("utf-8"))
            self.told += [_told(row) for row in rows]

    def batch(self, numbers: Array) -> dict[str, Array]:
        """Arrays of some pictures, stacked."""
        return {
            name: np.stack([self._arrays[n // SHARD][name][n % SHARD] for n in numbers])
            for name in ARRAYS
        }


def _told(row: dict[str, Any]) -> Told:
    return Told(
        names=tuple(row["names"]),
        colours=tuple(row["colours"]),
        labels=tuple((name, p) for name, p in row["labels"]),
        questions=tuple(
            Question(**{**q, "accepted": tuple(q["accepted"])}) for q in row["questions"]
        ),
    )
