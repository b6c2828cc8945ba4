"""A part of a picture, as users write it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Area(BaseModel):
    """A rectangle; ``left`` to ``bottom`` are fractions of the picture's width and height."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _has_an_area(self) -> Area:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError("a part of the picture needs left < right and top < bottom")
        return self

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a grid of this size that the area touches; at least one of each."""
        return _touched(self.top, self.bottom, height), _touched(self.left, self.right, width)


def _touched(begin: float, end: float, count: int) -> slice:
    first = min(int(begin * count), count - 1)
    return slice(first, max(first + 1, -int(-end * count // 1)))
