"""One conversation of the parity probe on disk: what went in, and what the source model made of it.

The runtime writes the inputs, the source model reads them and writes its results beside them, and
the certificate compares the bundle with these. Every array is an ``.npy`` file of one folder.

========================  ===================================================================
``case.json``             the question, or an encoder's texts
``picture.N.npy``         uint8 RGB ``(height, width, 3)``, the N-th picture as it came
``ids.npy``               int64 ``(rows,)``: the prompt, the image token at every visual row
``pixels.N.M.npy``        uint8 RGB ``(height, width, 3)``: tile M of picture N as the encoder
                          gets it (not kept in the bundle)
``text.NAME.npy``         int64 ``(texts, tokens)``: of an encoder's texts, such as ``input_ids``
``mask.KIND.NAME.npy``    points and labels of a mask decoder's prompts, KIND points or boxes
``extent.npy``            int64 ``(2,)``: height and width of the picture within those pixels
``stage.NAME.npy``        float32 ``(sampled rows, width)``: a stage of the source model
``tokens.npy``            int64 ``(steps,)``: its greedy answer
``gaps.npy``              float32 ``(steps,)``: its best logit less its second best
``logits.npy``            float32 ``(positions, vocab)``: at the first steps
========================  ===================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.errors import BundleCorrupt
from edgevlm.tensors import Array, Float32

UInt8 = NDArray[np.uint8]
GREEDY_STEPS = 32
LOGIT_POSITIONS = 16
STAGE_ROWS = 128


@dataclass(frozen=True, slots=True)
class ProbeCase:
    """A folder of one conversation.

    Args:
        folder: where its files are.
    """

    folder: Path

    def save(self, name: str, value: Array) -> None:
        """Write one array."""
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / f"{name}.npy", value, allow_pickle=False)

    def load(self, name: str) -> Array:
        """Read one array.

        Raises:
            BundleCorrupt: it is missing or damaged.
        """
        path = self.folder / f"{name}.npy"
        try:
            value: Array = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as exc:
            raise BundleCorrupt(f"{path} is missing or damaged: {exc}") from exc
        return value

    def names(self, start: str) -> list[str]:
        """Arrays whose name begins with ``start``, sorted by the numbers in them."""
        found = [p.name.removesuffix(".npy") for p in self.folder.glob(f"{start}*.npy")]
        return sorted(found, key=lambda n: [(len(part), part) for part in n.split(".")])

    def save_question(self, text: str) -> None:
        """Write the user's text."""
        self.folder.mkdir(parents=True, exist_ok=True)
        body = json.dumps({"question": text}, ensure_ascii=False, indent=1)
        (self.folder / "case.json").write_text(body + "\n", "utf-8")

    def save_texts(self, texts: Sequence[str]) -> None:
        """Write the texts of an encoder's case; there may be none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        body = json.dumps({"texts": list(texts)}, ensure_ascii=False, indent=1)
        (self.folder / "case.json").write_text(body + "\n", "utf-8")

    @property
    def texts(self) -> list[str]:
        """The texts of an encoder's case.

        Raises:
            BundleCorrupt: ``case.json`` is missing or damaged.
        """
        return [str(text) for text in self._content("texts", list)]

    @property
    def question(self) -> str:
        """The user's text.

        Raises:
            BundleCorrupt: ``case.json`` is missing or damaged.
        """
        return str(self._content("question", str))

    def _content(self, key: str, kind: type) -> Any:
        path = self.folder / "case.json"
        try:
            value = json.loads(path.read_text("utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise BundleCorrupt(f"{path} is missing or damaged: {exc}") from exc
        if not isinstance(value, kind):
            raise BundleCorrupt(f"{path} is damaged: {key} is no {kind.__name__}")
        return value

    @property
    def pictures(self) -> list[UInt8]:
        """The pictures as they came."""
        return [self.load(name) for name in self.names("picture.")]

    def tiles(self, picture: int) -> list[UInt8]:
        """What the encoder gets of one picture."""
        return [self.load(name) for name in self.names(f"pixels.{picture}.")]

    @property
    def answered(self) -> bool:
        """True once the source model has answered; there may be none."""
        return (self.folder / "tokens.npy").is_file()

    def forget_pixels(self) -> None:
        """Remove what only the source model needed."""
        for name in self.names("pixels."):
            (self.folder / f"{name}.npy").unlink()


def cases(root: Path) -> list[ProbeCase]:
    """The conversations under a bundle's ``probe/`` folder, by name."""
    return [ProbeCase(path.parent) for path in sorted(root.glob("*/case.json"))]


def sample_rows(value: Array) -> Float32:
    """At most ``STAGE_ROWS`` evenly spaced rows of ``(..., rows, width)``, always the same ones."""
    flat = value.reshape(-1, value.shape[-1])
    if len(flat) <= STAGE_ROWS:
        return np.ascontiguousarray(flat, np.float32)
    chosen = np.linspace(0, len(flat) - 1, STAGE_ROWS).round().astype(np.int64)
    return np.ascontiguousarray(flat[chosen], np.float32)
