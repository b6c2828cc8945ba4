"""What stands for a picture in the prompt."""

from __future__ import annotations

from edgevlm.bundle.images import AnyResolution, Expansion, ImageSpec
from edgevlm.runtime.model.pictures.prepared import Prepared


def expand(prepared: Prepared, spec: ImageSpec) -> tuple[str | int, ...]:
    """Texts, and the numbers of visual segments between them, in the prompt's order."""
    rule = spec.expansion
    if isinstance(spec.policy, AnyResolution) or len(prepared.pixels) == 1:
        return _joined([rule.prefix + rule.single, 0, rule.suffix])
    parts: list[str | int] = [rule.prefix]
    for number, tile in enumerate(prepared.tiles):
        row, column = divmod(number, prepared.columns)
        parts += [_before(rule, row, column), tile]
        if column == prepared.columns - 1:
            parts.append(rule.row_end)
    if prepared.whole is not None:
        parts += [rule.before_whole, prepared.whole]
    return _joined([*parts, rule.suffix])


def _before(rule: Expansion, row: int, column: int) -> str:
    return rule.before_tile.replace("{row}", str(row + 1)).replace("{column}", str(column + 1))


def _joined(parts: list[str | int]) -> tuple[str | int, ...]:
    return tuple(part for part in parts if part != "")
