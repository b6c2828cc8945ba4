"""One picture through the vision encoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle import Bundle, Manifest
from edgevlm.errors import ConfigError, ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.pictures import Prepared, assemble, expand, prepare, side_inputs
from edgevlm.runtime.model.relevance import by_classes, named_classes
from edgevlm.tensors import Array, Float32

UInt8 = NDArray[np.uint8]
TILES_AT_ONCE = 4  # bounds the activations of a picture of many tiles


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of visual rows in the prompt.

    Args:
        rows: float32 ``(tokens, hidden_size)``.
        deepstack: float32 ``(levels, tokens, hidden_size)``, added to the first decoder layers.
        grid: rows and columns of tokens, where rotary positions follow them.
    """

    rows: Float32
    deepstack: Float32 | None = None
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """What one encoder pass gives.

    Args:
        segments: visual rows in the language model's space; empty without a language model.
        expansion: what stands for the picture in the prompt: texts, and numbers of segments.
        pixels: uint8 RGB ``(height, width, 3)`` as the encoder got them, tile by tile.
        outputs: every output of the graph by name, such as ``features``.
        labels: class names with probabilities in [0, 1], best first; empty without a class head.
        whole: number of the segment that shows the whole picture, where others show tiles of it.
        source: height and width of the picture as it came.
        extent: height and width of the picture in the upper left corner of ``pixels``, where it
            does not fill them.
        preprocess_ms: resizing.
        encode_ms: the graph.
    """

    segments: tuple[Segment, ...]
    expansion: tuple[str | int, ...] = (0,)
    pixels: tuple[UInt8, ...] = ()
    outputs: dict[str, Array] = field(default_factory=dict)
    labels: tuple[tuple[str, float], ...] = ()
    whole: int | None = None
    source: tuple[int, int] = (0, 0)
    extent: tuple[int, int] | None = None
    preprocess_ms: float = 0.0
    encode_ms: float = 0.0

    @property
    def tokens(self) -> Float32:
        """All visual rows, float32 ``(count, hidden_size)``.

        Raises:
            ContractError: the encoder is no part of a language model; see ``outputs``.
        """
        if not self.segments:
            raise ContractError(
                f"this encoder gives no visual tokens, but {', '.join(self.outputs)}: see outputs"
            )
        rows: Float32 = np.concatenate([s.rows for s in self.segments])
        return rows


class VisionEncoder:
    """The bundle's vision graph, loaded.

    Args:
        bundle: the bundle.
        backend: loads the graph.
        visual_tokens: of a picture, one of the bundle's budgets; None is its default.

    Raises:
        ContractError: the bundle has no vision encoder.
        ConfigError: it has no such budget.
    """

    LABELS = 10

    def __init__(self, bundle: Bundle, backend: Backend, visual_tokens: int | None = None) -> None:
        manifest = bundle.manifest
        if manifest.image is None:
            raise ContractError(f"{manifest.name} has no vision encoder: it takes text only")
        self._spec = manifest.image
        self._shown = shown_rows(manifest, visual_tokens)
        self._graph: Graph = backend.load(bundle.path(manifest.graphs["vision"].file))
        self._rule = manifest.prompt.labels if manifest.prompt else None
        self._names: list[str] = bundle.read_json(self._rule.file) if self._rule else []
        newline = manifest.weights.get("vision.image_newline")
        self._newline = None if newline is None else np.array(bundle.array(newline.values))

    def encode(self, image_rgb: UInt8, among: int = 1) -> Encoded:
        """Encode one picture.

        Args:
            image_rgb: uint8 RGB ``(height, width, 3)``.
            among: how many pictures the prompt holds; some families then cut no tiles.
        """
        begun = time.perf_counter_ns()
        prepared = prepare(image_rgb, self._spec, images_in_prompt=among)
        feeds = [side_inputs(prepared, self._spec, n) for n in range(len(prepared.pixels))]
        fitted = time.perf_counter_ns()
        parts = self._run(prepared, feeds)
        segments = self._segments(prepared, parts)
        outputs = parts[0] if len(parts) == 1 else _joined(parts)
        done = time.perf_counter_ns()
        return Encoded(
            segments=segments,
            expansion=expand(prepared, self._spec),
            pixels=prepared.pixels,
            labels=self._label(outputs),
            outputs=outputs,
            whole=prepared.whole if len(segments) > 1 else None,
            source=prepared.source,
            extent=prepared.extent,
            preprocess_ms=(fitted - begun) / 1e6,
            encode_ms=(done - fitted) / 1e6,
        )

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """Probability, by the class head, that a frame shows what the question names.

        Returns:
            one value in [0, 1] a frame; None without a class head, or if the question names none
            of its classes.
        """
        if self._rule is None:
            return None
        output = self._rule.output
        classes = named_classes(question, self._names)
        return [by_classes(f.outputs[output], classes) for f in frames] if classes else None

    def _run(self, prepared: Prepared, feeds: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """The graph over one picture, or over its tiles: one by one, or all of one size."""
        image = next(t for t in self._graph.inputs if t.name == "image")
        if len(image.shape) == 3:
            return [
                self._graph.run({"image": tile, **more})
                for tile, more in zip(prepared.pixels, feeds, strict=True)
            ]
        at_once = 1 if image.shape[0] == 1 else TILES_AT_ONCE
        parts = [
            self._graph.run({"image": np.stack(prepared.pixels[n : n + at_once])})
            for n in range(0, len(prepared.pixels), at_once)
        ]
        return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]

    def _segments(self, prepared: Prepared, parts: list[dict[str, Array]]) -> tuple[Segment, ...]:
        tokens = parts[0].get("visual_tokens")
        if tokens is None:
            return ()
        if tokens.ndim == 2:
            return tuple(
                Segment(
                    part["visual_tokens"][self._shown], part.get("deepstack"), prepared.token_grid
                )
                for part in parts
            )
        rows = assemble(prepared, self._spec, tokens, self._newline)
        return tuple(map(Segment, rows))

    def _label(self, outputs: dict[str, Array]) -> tuple[tuple[str, float], ...]:
        if self._rule is None:
            return ()
        scores = outputs[self._rule.output].reshape(-1)
        best = np.argsort(-scores, kind="stable")[: self.LABELS]
        return tuple((self._names[i], float(scores[i])) for i in best)

    def close(self) -> None:
        """Release the graph; may be called twice."""
        self._graph.close()


def shown_rows(manifest: Manifest, visual_tokens: int | None) -> slice:
    """The rows of a picture that reach the language model.

    Raises:
        ConfigError: the bundle has no such budget, or no visual tokens at all.
    """
    if manifest.visual_tokens is not None:
        return manifest.visual_tokens.rows(visual_tokens)
    if visual_tokens is not None:
        raise ConfigError(f"{visual_tokens} visual tokens a picture: {manifest.name} gives none")
    return slice(None)


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Outputs of several runs as rows behind each other, ``(rows, width)``."""
    return {
        name: np.concatenate([part[name].reshape(-1, part[name].shape[-1]) for part in parts])
        for name in parts[0]
    }
