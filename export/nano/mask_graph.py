"""The graph of nano's mask head: what ``mask_head.py`` computes, as nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgevlm.bundle.masks import BACKGROUND, FOREGROUND, GRAPH, LOWER_RIGHT, UPPER_LEFT, MaskSpec
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.nano.mask_head import (
    EMBEDDED,
    LOOKED,
    NOTHING,
    PLACES,
    POINT_SIGMA,
    STRIDE,
    MaskHead,
    centres,
    places,
)
from edgevlm.export.nano.neck import WIDTH
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.vision_part import TowerOutputs, VisionGraph


def mask_spec(size: int) -> MaskSpec:
    """How masks are asked for, at pictures of ``size`` pixels a side."""
    return MaskSpec(input_size=size, mask_size=size // STRIDE, candidates=1)


@dataclass(frozen=True, slots=True)
class MaskPart:
    """The graph ``heads/mask``, in float32 whatever the others get.

    Args:
        head: the trained head.
        image_size: height and width of the encoder's input, in pixels.
    """

    head: MaskHead
    image_size: int

    @property
    def name(self) -> str:
        """Of the graph."""
        return GRAPH

    @property
    def steps(self) -> int:
        """Told once."""
        return 1

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:  # noqa: ARG002
        """Write the graph."""

        def build(g: GraphBuilder, plan: PrecisionPlan) -> TowerOutputs:  # noqa: ARG001
            lower_masks(g, self.head, self.image_size)
            return TowerOutputs()

        return VisionGraph(build, GRAPH).lower(folder, PrecisionPlan(default="fp32"), progress)


def lower_masks(g: GraphBuilder, head: MaskHead, size: int) -> None:
    """Write the graph ``heads/mask``, whose points are in pixels of the encoder's input.

    Args:
        g: an empty graph.
        head: the trained head.
        head: the trained head.
        size: height and width of the encoder's input, in pixels.
    """
    side = size // STRIDE
    embeddings = g.input("image_embeddings", "float32", (1, EMBEDDED, side, side))
    pixels = g.input("points", "float32", ("prompts", "n", 2), "x and y in the input's pixels")
    labels = g.input("labels", "int64", ("prompts", "n"), "0, 1, 2 and 3 for corners; else none")
    part = g.constant("part", np.float32(1 / size))
    points = g.node("Mul", [pixels, part], "points")
    axes = {n: g.constant(f"axis.{n}", np.array([n], np.int64)) for n in (1, 2)}

    def total(x: str, place: str, *, keep: bool = False) -> str:
        return g.node("ReduceSum", [x, axes[1]], place, keepdims=int(keep))

    def of_kind(kind: int, place: str) -> str:
        wanted = g.constant(f"kind.{kind}", np.array(kind, np.int64))
        found = g.node("Cast", [g.node("Equal", [labels, wanted], place)], place, to=1)
        return g.node("Unsqueeze", [found, axes[2]], place)

    shown, hidden = of_kind(FOREGROUND, "kind/shown"), of_kind(BACKGROUND, "kind/hidden")
    first, second = of_kind(UPPER_LEFT, "kind/first"), of_kind(LOWER_RIGHT, "kind/second")
    boxed = g.node("ReduceMax", [first, axes[1]], "boxed", keepdims=0)
    negative = g.node("ReduceMax", [hidden, axes[1]], "negative", keepdims=0)
    one = g.constant("one", np.float32(1))
    free = g.node("Sub", [one, boxed], "free")
    near = _lower_near(g, points, side)
    inside = total(g.node("Mul", [near, shown], "inside"), "inside")
    outside = total(g.node("Mul", [near, hidden], "outside"), "outside")
    corner = total(g.node("Mul", [points, first], "corner"), "corner")
    other = total(g.node("Mul", [points, second], "other"), "other")
    within = _lower_within(g, corner, other)
    boxes = g.node("Mul", [within, boxed], "weight/box")
    circles = g.node("Mul", [inside, free], "weight/points")
    weight = g.node("Add", [boxes, circles], "weight")

    flat = g.constant("flat", np.array([EMBEDDED, side * side], np.int64))
    rows = g.node("Reshape", [embeddings, flat], "rows")
    cut = g.constant("cut", np.array([LOOKED, WIDTH], np.int64))
    g.node("Split", [rows, cut], "rows", outputs=["rows/looked", "rows/cells"], axis=0)
    turned = g.node("Transpose", ["rows/cells"], "rows/cells", perm=[1, 0])
    nothing = g.constant("nothing", np.float32(NOTHING))
    means = []
    for name, w in (("covered", weight), ("excluded", outside)):
        amount = g.node("Add", [total(w, f"{name}/amount", keep=True), nothing], name)
        seen = g.node("MatMul", [w, turned], name)
        means.append(g.node("Div", [seen, amount], name))
    count = g.node("Max", [total(shown, "point/count"), one], "point")
    point = g.node("Div", [total(g.node("Mul", [points, shown], "point"), "point"), count], "point")
    half = g.constant("half", np.float32(0.5))
    middle = g.node("Mul", [g.node("Add", [corner, other], "middle"), half], "middle")
    middle = g.node("Mul", [middle, boxed], "middle/box")
    centre = g.node("Add", [middle, g.node("Mul", [point, free], "centre")], "centre")
    extent = g.node("Mul", [g.node("Sub", [other, corner], "extent"), boxed], "extent")
    known = g.node("Concat", [*means, boxed, centre, extent, negative], "known", axis=1)
    made = head.down.lower(g, g.node("Relu", [head.up.lower(g, known)], "known"))
    parts = g.constant("parts", np.array([LOOKED, PLACES, 1], np.int64))
    names = ["made/look", "made/where", "made/score"]
    g.node("Split", [made, parts], "made", outputs=names, axis=1)
    look, where, score = names
    scale = g.constant("look.scale", np.float32(LOOKED**-0.5))
    looked = g.node("MatMul", [g.node("Mul", [look, scale], "look"), "rows/looked"], "look")
    g.weight("places", places(side))
    placed = g.node("MatMul", [where, "places"], "where")
    shape = g.constant("shape", np.array([-1, 1, side, side], np.int64))
    logits = g.node("Add", [looked, placed], "logits")
    g.node("Reshape", [logits, shape], "masks", outputs=["masks"])
    g.node("Sigmoid", [score], "scores", outputs=["scores"])
    g.output("masks", "float32", ("prompts", 1, side, side), "logits")
    g.output("scores", "float32", ("prompts", 1), "overlap that is expected")


def _lower_near(g: GraphBuilder, points: str, side: int) -> str:
    """How near each place is to each point, ``(prompts, n, side * side)``."""
    parts = g.constant("near.parts", np.array([1, 1], np.int64))
    g.node("Split", [points, parts], "near", outputs=["near/px", "near/py"], axis=2)
    squares = []
    for name, line in zip("xy", centres(side), strict=True):
        g.weight(f"centres.{name}", line)
        away = g.node("Sub", [f"near/p{name}", f"centres.{name}"], f"near/{name}")
        squares.append(g.node("Mul", [away, away], f"near/{name}"))
    fall = g.constant("near.fall", np.float32(-1 / (2 * POINT_SIGMA**2)))
    away = g.node("Mul", [g.node("Add", squares, "near"), fall], "near")
    return g.node("Exp", [away], "near")


def _lower_within(g: GraphBuilder, corner: str, other: str) -> str:
    """1 for places within the boxes, ``(prompts, side * side)``."""
    found = []
    parts = g.constant("near.parts", np.array([1, 1], np.int64))
    for name, box, op in (("first", corner, "GreaterOrEqual"), ("last", other, "LessOrEqual")):
        ends = [f"within/{name}/x", f"within/{name}/y"]
        g.node("Split", [box, parts], f"within/{name}", outputs=ends, axis=1)
        for axis, end in zip("xy", ends, strict=True):
            inside = g.node(op, [f"centres.{axis}", end], f"within/{name}/{axis}")
            found.append(g.node("Cast", [inside], f"within/{name}/{axis}", to=1))
    both = [g.node("Mul", found[n : n + 2], f"within/{n}") for n in (0, 2)]
    return g.node("Mul", both, "within")
