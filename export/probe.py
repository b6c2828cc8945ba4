"""The probe: one picture, one prompt, and what the source model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgevlm.errors import CheckpointError
from edgevlm.export.progress import Progress
from edgevlm.tensors import Array, Float32

UInt8 = NDArray[np.uint8]
GREEDY_STEPS = 32
LOGIT_POSITIONS = 16
BEFORE = "The harbour was quiet in the morning, and a small boat lay at the pier."
AFTER = " What the picture shows, described in a few words, is"


class ReferenceDecoder(Protocol):
    """A decoder that appends rows and gives the logits at each of them."""

    def embed(self, token_ids: list[int]) -> Float32:
        """Rows of the embedding table ``(tokens, hidden)``."""
        ...

    def forward(self, embeds: Float32) -> Float32:
        """Logits ``(tokens, vocab)``."""
        ...

    def reset(self) -> None:
        """Forget every position."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphCase:
    """What a graph besides encoder and decoder takes, and gives.

    Args:
        graph: its name in the manifest.
        inputs: by name, those that do not come from the encoder.
        outputs: by name, of the reference.
    """

    graph: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]

    @property
    def stage(self) -> str:
        """What its files are named after: of a head without ``heads/``."""
        return self.graph.rpartition("/")[2]


def probe_picture(height: int, width: int) -> UInt8:
    """A drawn test picture, uint8 RGB: gradients, an edge, a disc and some texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / max(width - 1, 1), y / max(height - 1, 1)
    picture = np.stack([255 * u, 255 * v, 160 + 60 * np.sin(9 * u) * np.cos(7 * v)], -1)
    disc = (u - 0.4) ** 2 + (v - 0.55) ** 2 < 0.06
    picture[disc] = (235, 120, 30)
    picture[(u > 0.7) & (v < 0.5)] *= 0.35
    grain = np.random.default_rng(20).normal(0, 6, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def probe_texts(tokenizer: Tokenizer, vocab_size: int) -> tuple[list[int], list[int]]:
    """Tokens before and behind the picture.

    Raises:
        CheckpointError: the tokenizer fails, gives nothing, or gives tokens that the model lacks.
    """
    try:
        before, after = (tokenizer.encode(t, add_special_tokens=False).ids for t in (BEFORE, AFTER))
    except Exception as exc:  # the tokenizers library raises plain Exception
        raise CheckpointError(f"the tokenizer cannot take plain English: {exc}") from exc
    largest = max([*before, *after], default=vocab_size)
    if not (before and after and largest < vocab_size):
        raise CheckpointError(
            f"tokenizer and weights do not belong together: the model has {vocab_size} tokens, "
            f"and plain English becomes {len(before) + len(after)} with ids up to {largest}"
        )
    return before, after


def write_probe(
    folder: Path,
    texts: tuple[list[int], list[int]],
    decoder: ReferenceDecoder,
    vision: Callable[[UInt8], dict[str, Array]] | None,
    image_size: tuple[int, int] | None,
    progress: Progress,
    visual_rows: slice = slice(None),
    heads: Callable[[Mapping[str, Array]], Iterable[GraphCase]] = lambda _: (),
) -> None:
    """Compute the reference and write it as ``.npy`` files.

    Args:
        folder: ``probe/`` of the bundle; made here.
        texts: from ``probe_texts``.
        decoder: the reference decoder.
        vision: gives the reference outputs of the vision encoder by name, ``visual_tokens``
            among them; None for a text model.
        image_size: height and width of the encoder's input.
        progress: told after every part.
        visual_rows: of ``visual_tokens``, those that reach the decoder.
        heads: gives the cases of further graphs, from what the encoder gave.

    Raises:
        CheckpointError: the source model's own logits are not finite.
    """
    folder.mkdir()

    def save(name: str, value: Array) -> None:
        np.save(folder / f"{name}.npy", value, allow_pickle=False)

    before, after = texts
    save("before", np.array(before, np.int64))
    save("after", np.array(after, np.int64))
    parts = [decoder.embed(before)]
    if vision is not None and image_size is not None:
        picture = probe_picture(*image_size)
        save("image", picture)
        outputs = vision(picture)
        for name, value in outputs.items():
            save(f"vision.{name}", value)
        for case in heads(outputs):
            for name, value in {**case.inputs, **case.outputs}.items():
                save(f"{case.stage}.{name}", value)
        parts.append(outputs["visual_tokens"][visual_rows])
    progress.step("reference encoder")
    decoder.reset()
    logits = decoder.forward(np.concatenate([*parts, decoder.embed(after)]))[-1]
    tokens, rows, gaps = [], [], []
    for _ in range(GREEDY_STEPS):
        second, best = np.sort(np.partition(logits, -2)[-2:])
        tokens.append(int(logits.argmax()))
        gaps.append(float(best - second))
        rows.append(logits)
        logits = decoder.forward(decoder.embed(tokens[-1:]))[-1]
    if not np.isfinite(rows).all():
        raise CheckpointError("the checkpoint's own logits are not finite: its weights are damaged")
    save("tokens", np.array(tokens, np.int64))
    save("gaps", np.array(gaps, np.float32))
    save("logits", np.stack(rows[:LOGIT_POSITIONS]))
    progress.step("reference decoder")
