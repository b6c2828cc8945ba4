"""nano's trained connector: every visual token asks its window, in numpy and as nodes.

A token is the closed-form guess at its window (``connector.py``), corrected by what its query
finds there. One picture is told in several budgets of tokens at once, the rows of one behind those
of the other: who reads them chooses.

Source: windowed queries as in TokenPacker (Li et al., 2024), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.layers import Linear, relu
from edgevlm.export.nano.neck import WIDTH
from edgevlm.export.nano.semantic import HIDDEN
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Float32

SIDES = (1, 2, 3, 4, 7)  # windows along one side, for every budget of tokens
TOKENS = sum(side * side for side in SIDES)
HEADS = 6
INNER = 768
GRID = 14  # cells along one side of the training pictures
MARGIN = np.float32(1 / GRID)  # of a picture's side, by which a window looks over its edge
UNSEEN = -1e4  # added to a score: half precision holds it


def budgets() -> dict[int, int]:
    """Tokens of a budget, and its first row among all."""
    counts = [side * side for side in SIDES]
    return {count: sum(counts[:n]) for n, count in enumerate(counts)}


def guess_windows(grid: int) -> Float32:
    """Which cells of the feature map the guesses of all budgets are means of.

    Returns:
        float32 ``(grid * grid, TOKENS)``; columns sum to 1.

    Raises:
        ConfigError: fewer cells than tokens.
    """
    return np.concatenate([GridPool(side * side).matrix(grid) for side in SIDES], axis=1)


def windows(side: int, grid: int) -> NDArray[np.bool_]:
    """Which cells each window of a ``side x side`` cut sees, bool ``(side^2, grid^2)``.

    In float32 throughout, as in training: a centre may lie on an edge.
    """
    one = np.float32(1)
    centres = (np.arange(grid, dtype=np.float32) + np.float32(0.5)) / np.float32(grid)
    starts = np.arange(side, dtype=np.float32) / np.float32(side)
    margin = MARGIN if side > 1 else np.float32(0)
    ends = starts + one / np.float32(side) + margin
    inside = (centres[None] > starts[:, None] - margin) & (centres[None] < ends[:, None])
    both = inside[:, None, :, None] & inside[None, :, None, :]
    found: NDArray[np.bool_] = both.reshape(side * side, grid * grid)
    return found


def stretched(table: Float32, grid: int) -> Float32:
    """Positions ``(grid, width)`` of another grid, linear between those that were trained."""
    centres = (np.arange(grid) + 0.5) * len(table) / grid - 0.5
    known = np.arange(len(table))
    columns = [np.interp(centres, known, column) for column in table.T]
    return np.stack(columns, axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Queries:
    """The connector.

    Args:
        rows: float32 ``(GRID, WIDTH)``, positions from top to bottom.
        columns: likewise, from left to right.
        queries: float32 ``(TOKENS, WIDTH)``.
        key: of cells.
        value: of cells.
        up: of what a query found, the mean of its window, and its guess.
        down: behind a ReLU.
        gain: float32 ``(len(SIDES),)``, of the guess.
        place: float32 ``(TOKENS, HIDDEN)``, added to a token.
    """

    rows: Float32
    columns: Float32
    queries: Float32
    key: Linear
    value: Linear
    up: Linear
    down: Linear
    gain: Float32
    place: Float32

    @classmethod
    def read(cls, file: TrainedFile) -> Queries:
        """As torch names it."""
        name = "connector"
        return cls(
            rows=file.take(f"{name}.rows", GRID, WIDTH),
            columns=file.take(f"{name}.columns", GRID, WIDTH),
            queries=file.take(f"{name}.queries", TOKENS, WIDTH),
            key=Linear.read(file, f"{name}.key", WIDTH, WIDTH),
            value=Linear.read(file, f"{name}.value", WIDTH, WIDTH),
            up=Linear.read(file, f"{name}.up", 2 * WIDTH + HIDDEN, INNER),
            down=Linear.read(file, f"{name}.down", INNER, HIDDEN),
            gain=file.take(f"{name}.gain", len(SIDES)),
            place=file.take(f"{name}.place", TOKENS, HIDDEN),
        )

    def apply(self, rows: Float32, guess: Float32) -> Float32:
        """The tokens of all budgets, float32 ``(TOKENS, HIDDEN)``.

        Args:
            rows: the cells, float32 ``(grid * grid, WIDTH)``.
            guess: float32 ``(TOKENS, HIDDEN)``, of the same windows.
        """
        seen = self._seen(len(rows))
        placed = rows + self._positions(len(rows))
        key, value = (_heads(f.apply(placed)) for f in (self.key, self.value))
        scores = self._scaled_queries() @ key.transpose(0, 2, 1)
        scores = np.where(seen, scores, np.float32(UNSEEN))
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        found = (weight @ value).transpose(1, 0, 2).reshape(TOKENS, WIDTH)
        mean = _means(seen) @ rows
        wide = relu(self.up.apply(np.concatenate([found, mean, guess], axis=1)))
        return self._gains() * guess + self.down.apply(wide) + self.place

    def lower(self, g: GraphBuilder, rows: str, guess: str, grid: int) -> str:
        """Write ``apply``; ``rows`` and ``guess`` are names of what it takes."""
        at, cells = "connector/query", grid * grid
        seen = self._seen(cells)
        g.weight("connector.positions", self._positions(cells))
        placed = g.node("Add", [rows, "connector.positions"], at)
        split = g.constant("connector.heads", np.array([cells, HEADS, -1], np.int64))
        keys = g.node("Reshape", [self.key.lower(g, placed), split], f"{at}/key")
        keys = g.node("Transpose", [keys], f"{at}/key", perm=[1, 2, 0])
        values = g.node("Reshape", [self.value.lower(g, placed), split], f"{at}/value")
        values = g.node("Transpose", [values], f"{at}/value", perm=[1, 0, 2])
        g.weight("connector.queries", self._scaled_queries())
        scores = g.node("MatMul", ["connector.queries", keys], f"{at}/scores")
        g.weight("connector.unseen", np.where(seen, 0, UNSEEN).astype(np.float32))
        scores = g.node("Add", [scores, "connector.unseen"], f"{at}/scores")
        weight = g.node("Softmax", [scores], at, axis=-1)
        found = g.node("MatMul", [weight, values], f"{at}/found")
        found = g.node("Transpose", [found], f"{at}/found", perm=[1, 0, 2])
        joined = g.constant("connector.joined", np.array([TOKENS, WIDTH], np.int64))
        found = g.node("Reshape", [found, joined], f"{at}/found")
        g.weight("connector.means", _means(seen))
        mean = g.node("MatMul", ["connector.means", rows], f"{at}/mean")
        known = g.node("Concat", [found, mean, guess], at, axis=1)
        wide = g.node("Relu", [self.up.lower(g, known)], at)
        g.weight("connector.gain", self._gains())
        g.weight("connector.place", self.place)
        kept = g.node("Mul", [guess, "connector.gain"], f"{at}/guess")
        token = g.node("Add", [kept, self.down.lower(g, wide)], f"{at}/token")
        return g.node("Add", [token, "connector.place"], f"{at}/place")

    def _positions(self, cells: int) -> Float32:
        grid = round(cells**0.5)
        down, across = stretched(self.rows, grid), stretched(self.columns, grid)
        return (down[:, None] + across[None]).reshape(cells, WIDTH)

    def _seen(self, cells: int) -> NDArray[np.bool_]:
        """All windows, bool ``(TOKENS, cells)``."""
        return np.concatenate([windows(side, round(cells**0.5)) for side in SIDES])

    def _scaled_queries(self) -> Float32:
        """``(HEADS, TOKENS, width of a head)``."""
        scale = np.float32((WIDTH // HEADS) ** -0.5)
        return np.ascontiguousarray(_heads(self.queries) * scale)

    def _gains(self) -> Float32:
        """One a token, ``(TOKENS, 1)``."""
        return np.repeat(self.gain, [side * side for side in SIDES])[:, None]


def _heads(rows: Float32) -> Float32:
    """``(rows, WIDTH)`` to ``(HEADS, rows, width of a head)``."""
    found: Float32 = rows.reshape(len(rows), HEADS, -1).transpose(1, 0, 2)
    return found


def _means(seen: NDArray[np.bool_]) -> Float32:
    """Every window as the weights of a mean."""
    found: Float32 = (seen / seen.sum(1, keepdims=True)).astype(np.float32)
    return found
