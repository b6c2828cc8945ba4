"""From an encoded picture to the text that tells the language model what stands where."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edgevlm.bundle import Bundle
from edgevlm.bundle.masks import FOREGROUND, PADDING
from edgevlm.bundle.prompt import ScenePrompt
from edgevlm.bundle.scene_words import SceneWords
from edgevlm.colour import colour_name
from edgevlm.errors import BundleCorrupt
from edgevlm.runtime.backends.base import Backend
from edgevlm.runtime.model.masks import MaskDecoder
from edgevlm.runtime.model.pictures.placement import Placement, placed_by
from edgevlm.runtime.model.scene import Shown, shown_things
from edgevlm.runtime.model.scene_names import SceneNames
from edgevlm.runtime.model.text_encoder import TextEncoder
from edgevlm.runtime.model.vision import Encoded
from edgevlm.scene_text import SceneThing, scene_text
from edgevlm.tensors import Float32

_EDGE = 4  # pixels around a mask that have two colours


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What one picture shows; names are chosen when a question comes.

    Args:
        names: of the bundle.
        looks: float32 ``(things, width)``.
        things: without names.
        label: what the encoder's classes call the largest one, where they are sure.
    """

    names: SceneNames
    looks: Float32
    things: list[SceneThing] = field(default_factory=list)
    label: str | None = None

    def text(self, question: str = "") -> str:
        """The text for a question."""
        known: dict[int, str] = {}
        if self.label is not None and self.things:
            largest = max(range(len(self.things)), key=lambda n: self.things[n].area)
            known[largest] = self.label
        called = self.names.names(self.looks, question, known)
        return scene_text(
            [
                SceneThing(name=name, colour=t.colour, box_xyxy=t.box_xyxy, area=t.area)
                for name, t in zip(called, self.things, strict=True)
            ]
        )


class SceneReader:
    """A bundle's mask head and words, loaded.

    Args:
        bundle: whose manifest asks for scenes in prompts.
        rule: that section.
        backend: runs its graphs.

    Raises:
        BundleCorrupt: a damaged list of words.
        BackendError: a graph does not load.
    """

    def __init__(self, bundle: Bundle, rule: ScenePrompt, backend: Backend) -> None:
        self._rule, self._image = rule, bundle.manifest.image
        self._masks = MaskDecoder(bundle, backend)
        try:
            words = SceneWords.model_validate(bundle.read_json(rule.file))
        except ValidationError as exc:
            raise BundleCorrupt(f"{rule.file} is no list of words: {exc}") from exc
        texts = TextEncoder(bundle, backend)
        text = bundle.manifest.text
        assert text is not None
        self._names = SceneNames(words, rule, texts.encode, text.logit_scale)
        texts.close()
        self._last: tuple[Encoded, Scene] | None = None

    def read(self, encoded: Encoded) -> Scene:
        """What a picture shows; the last one is kept, as several questions may be about it."""
        if self._last is None or self._last[0] is not encoded:
            self._last = encoded, self._read(encoded)
        return self._last[1]

    def _read(self, encoded: Encoded) -> Scene:
        cells = encoded.outputs["patch_embeds"][0]
        grid = math.isqrt(len(cells))
        chance = encoded.outputs[self._rule.output].reshape(grid, grid)
        place, fit = placed_by(self._image, encoded.source)
        size = np.array([fit.width, fit.height], np.float32)

        def masks_at(points: Float32) -> tuple[Float32, Float32]:
            where = np.zeros((len(points), 2, 2), np.float32)
            where[:, 0] = points * size
            kinds = np.tile(np.array([FOREGROUND, PADDING], np.int64), (len(points), 1))
            found, scores = self._masks.run(encoded.outputs["image_embeddings"], where, kinds)
            return found[:, 0], scores[:, 0]

        inside = _inside(grid, place, (fit.height, fit.width), encoded.source)
        shown = shown_things(chance, cells, inside, masks_at, self._rule)
        things = [_thing(one, encoded, place) for one in shown]
        looks = [one.look for one in shown]
        width = cells.shape[1]
        return Scene(
            self._names,
            np.stack(looks) if looks else np.zeros((0, width), np.float32),
            things,
            next((name for name, p in encoded.labels[:1] if p >= self._rule.labelled), None),
        )

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._masks.close()


def _inside(
    grid: int, place: Placement, size: tuple[int, int], source: tuple[int, int]
) -> NDArray[np.bool_]:
    """Cells whose middle shows the picture."""
    lines = []
    for axis, (scale, start) in enumerate(
        ((place.scale_y, place.top), (place.scale_x, place.left))
    ):
        at = ((np.arange(grid) + 0.5) * size[axis] / grid - start) / scale
        lines.append((at >= 0) & (at < source[axis]))
    inside: NDArray[np.bool_] = lines[0][:, None] & lines[1]
    return inside


def _thing(one: Shown, encoded: Encoded, place: Placement) -> SceneThing:
    pixels = encoded.pixels[0]
    height, width = pixels.shape[:2]
    mask = np.kron(one.mask, np.ones((height // len(one.mask), width // len(one.mask)), np.bool_))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]])
    down, across = encoded.source
    box = place.to_picture(corners, encoded.source)[0] / [across, down, across, down]
    core = _within(mask, _EDGE)
    return SceneThing(
        name=None,
        colour=colour_name(pixels, core if core.any() else mask),
        box_xyxy=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        area=float(mask.sum() / (place.scale_x * place.scale_y * across * down)),
    )


def _within(mask: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Pixels whose square of ``2 * margin + 1`` pixels lies in the mask, as far as the picture."""
    for axis in (0, 1):
        length = mask.shape[axis]
        padded = np.pad(mask, [(margin, margin) if n == axis else (0, 0) for n in (0, 1)], "edge")
        parts = [np.take(padded, range(n, n + length), axis) for n in range(2 * margin + 1)]
        mask = np.logical_and.reduce(parts)
    return mask
