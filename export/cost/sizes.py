"""What the free dimensions of our graphs are at one size of call, and formulas from samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edgevlm.bundle.images import ImageSpec, Lfm2Tiles, NativePatches, SmartResize
from edgevlm.bundle.manifest import GraphEntry
from edgevlm.cost.sheet import GraphCost, OpClass, Poly, Unit, Work
from edgevlm.errors import CheckpointError
from edgevlm.export.cost.counter import Counted, count
from edgevlm.export.cost.precisions import weights
from edgevlm.tensors import Array

TILES = (1, 2, 4)
SIDES = (8, 16, 32)  # patches along one side of a square picture
ROWS = (64, 128, 256)
PAST = 512  # tokens in the cache, in the walks that find out what they cost


@dataclass(frozen=True, slots=True)
class Sample:
    """One walk over a graph: the size of the call, and what was found."""

    count: int
    past: int
    found: Counted


def vision_cost(model: onnx.ModelProto, entry: GraphEntry, image: ImageSpec) -> GraphCost:
    """A vision encoder, in tiles, or in patches where pictures keep their own size."""
    policy = image.policy
    if isinstance(policy, SmartResize | Lfm2Tiles | NativePatches):
        merge = getattr(policy, "merge", 1)
        window = getattr(policy, "window", None)
        walks = [
            Sample(side * side, 0, count(model, _grid(side, policy.patch, merge, window)))
            for side in (s * merge for s in SIDES)
        ]
        return _fitted("patches", walks)
    shape = next(t.shape for t in entry.inputs if t.name == "image")
    free = {d for d in shape if isinstance(d, str)}
    if not free:
        return _fitted("tiles", [Sample(1, 0, count(model, {}))])
    return _fitted("tiles", [Sample(n, 0, count(model, dict.fromkeys(free, n))) for n in TILES])


def encoder_cost(model: onnx.ModelProto, most: int) -> GraphCost:
    """The text side of an encoder-decoder model, in rows of the prompt, of which ``most`` fit."""
    rows, _ = _within(most)
    return _fitted("rows", [Sample(n, 0, count(model, {"rows": n})) for n in rows])


def decoder_cost(model: onnx.ModelProto, most: int, rows: int = 1) -> GraphCost:
    """A decoder, in tokens of one call behind a filled cache; logits of the last one.

    Args:
        model: the graph.
        most: tokens that it has positions for.
        rows: of the prompt that an encoder-decoder model attends to.
    """

    def walk(n: int, past: int) -> Sample:
        dims = {
            "tokens": n, "num_logits": 1, "rows": rows, "batch_size": 1, "sequence_length": n,
            "past_sequence_length": past, "total_sequence_length": past + n,
        }  # fmt: skip
        values: dict[str, Array] = {
            "num_logits": np.array([1], np.int64),
            "seqlens_k": np.array([past + n - 1], np.int32),
            "total_sequence_length": np.array(past + n, np.int32),
        }
        return Sample(n, past, count(model, dims, values))

    sizes, past = _within(most)
    walks = [walk(n, 0) for n in sizes]
    return _fitted("tokens", [*walks, *(walk(n, past) for n in sizes[:2])])


def _within(most: int) -> tuple[tuple[int, ...], int]:
    """Rows of a call, and tokens before it, that a graph with so many positions takes."""
    if most >= PAST + ROWS[1]:
        return ROWS, PAST
    step = max(most // 8, 1)
    return (step, 2 * step, 4 * step), 2 * step


def _grid(side: int, patch: int, merge: int, window: int | None) -> dict[str, int]:
    patches = side * side
    dims = {
        "height": side * patch, "width": side * patch, "rows": side, "columns": side,
        "patches": patches, "tokens": patches // merge**2,
    }  # fmt: skip
    if window is not None:
        along = -(-side // (window // merge // patch * merge))
        dims["windows"] = along * along
        dims["window_patches"] = along * along * (window // merge // patch * merge) ** 2
    return dims


def polynomial(samples: list[tuple[int, int, float]]) -> Poly:
    """The formula through samples ``(n, p, value)``: one, three, or three and two with ``p > 0``.

    Raises:
        CheckpointError: the samples do not determine one.
    """
    if len(samples) == 1:
        return Poly(linear=samples[0][2] / samples[0][0])
    columns: list[Callable[[float, float], float]] = [
        lambda _n, _p: 1.0, lambda n, _p: n, lambda n, _p: n * n,
    ]  # fmt: skip
    if any(p for _, p, _ in samples):
        columns += [lambda _n, p: p, lambda n, p: n * p]
    matrix = np.array([[column(n, p) for column in columns] for n, p, _ in samples], np.float64)
    if len(samples) != len(columns):
        raise CheckpointError(f"{len(samples)} samples for {len(columns)} coefficients")
    scale = np.abs(matrix).max(0)
    found = np.linalg.solve(matrix / scale, [v for *_, v in samples]) / scale
    largest = max(abs(v) for *_, v in samples)
    reach = np.abs(matrix).max(0) * np.abs(found)
    kept = np.where(reach < 1e-9 * largest, 0.0, found)  # what only rounding left
    names = ("constant", "linear", "quadratic", "past", "cross")
    return Poly(**dict(zip(names, map(float, kept), strict=False)))


def _fitted(unit: Unit, walks: list[Sample]) -> GraphCost:
    kinds: list[OpClass] = sorted({kind for walk in walks for kind in walk.found.nodes})

    def through(pick: Callable[[Counted], float]) -> Poly:
        return polynomial([(w.count, w.past, pick(w.found)) for w in walks])

    work: Mapping[OpClass, Work] = {
        kind: Work(
            flops=through(lambda c, k=kind: c.flops.get(k, 0.0)),  # type: ignore[misc]
            values=through(lambda c, k=kind: c.values.get(k, 0.0)),  # type: ignore[misc]
            nodes=walks[0].found.nodes.get(kind, 0),
        )
        for kind in kinds
    }
    return GraphCost(
        unit=unit,
        work=work,
        weights=weights(walks[0].found.matrices, walks[0].found.others, decoder=unit == "tokens"),
        peak_values=through(lambda c: float(c.peak)),
        fused_peak_values=through(lambda c: float(c.fused_peak)),
    )
