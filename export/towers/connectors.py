"""From encoder features to the language model's space."""

from __future__ import annotations

from edgevlm.export.towers.writer import Activation, TowerWriter


def pixel_shuffle(w: TowerWriter, x: str, side: int, width: int, factor: int, place: str) -> str:
    """Square neighbourhoods of patches become one wider row.

    Args:
        w: writer.
        x: float32 ``(tiles, side * side, width)``.
        side: patches along one side.
        width: of the features.
        factor: patches along one side of a neighbourhood.
        place: where the nodes sit.

    Returns:
        float32 ``(tiles, (side / factor) ** 2, width * factor ** 2)``; within a row the patches
        lie row by row.

    Source: Idefics3 (Laurençon et al., 2024), section 2.2, "pixel shuffle strategy".
    """
    small = side // factor
    split = w.ints(-1, small, factor, small, factor, width)
    grid = w.node("Reshape", [x, split], f"{place}/split")
    near = w.node("Transpose", [grid], place, perm=[0, 1, 3, 2, 4, 5])
    rows = w.ints(-1, small * small, width * factor * factor)
    return w.node("Reshape", [near, rows], f"{place}/rows")


def mlp(
    w: TowerWriter,
    x: str,
    first: str,
    second: str,
    activation: Activation,
    place: str,
    *,
    bias: bool = True,
) -> str:
    """Two linear layers with a non-linearity between them."""
    up = w.linear(x, first, f"{place}/first", bias=bias)
    return w.linear(w.activation(up, activation, place), second, f"{place}/second", bias=bias)


def native_pixel_shuffle(w: TowerWriter, x: str, width: int, factor: int, place: str) -> str:
    """``pixel_shuffle`` of one picture, whose grid is that of ``position_columns``.

    Args:
        w: writer.
        x: float32 ``(1, rows * columns, width)``, both whole multiples of ``factor``.
        width: of the features.
        factor: patches along one side of a neighbourhood.
        place: where the nodes sit.

    Returns:
        float32 ``(rows * columns / factor ** 2, width * factor ** 2)``.
    """
    columns = w.node("Shape", ["position_columns"], f"{place}/columns", start=0, end=1)
    small = w.node("Div", [columns, w.ints(factor)], f"{place}/columns")
    shape = [w.ints(-1, factor), small, w.ints(width * factor)]
    split = w.node("Concat", shape, f"{place}/shape", axis=0)
    grid = w.node("Reshape", [x, split], f"{place}/split")
    near = w.node("Transpose", [grid], place, perm=[0, 2, 1, 3])
    return w.node("Reshape", [near, w.ints(-1, width * factor * factor)], f"{place}/rows")
