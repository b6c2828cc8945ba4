"""How many rows of the prompt a picture becomes, and between how many a reader may choose."""

from __future__ import annotations

from pydantic import Field, model_validator

from edgevlm.bundle.images import Strict
from edgevlm.errors import ConfigError


class TokenBudget(Strict):
    """One of several numbers of tokens that the encoder tells a picture in at once."""

    count: int = Field(ge=1)
    first: int = Field(ge=0, description="row of the output visual_tokens where they begin")


class VisualTokens(Strict):
    """What one picture becomes in the prompt."""

    count: int = Field(ge=0, description="of the default budget, where there are several")
    compressor: str
    options: dict[str, str | int | float] = Field(default_factory=dict)
    budgets: tuple[TokenBudget, ...] = Field(
        default=(), description="that a reader may choose from; empty: all rows are one picture's"
    )

    @model_validator(mode="after")
    def _has_default(self) -> VisualTokens:
        counts = [budget.count for budget in self.budgets]
        if counts and (self.count not in counts or len(set(counts)) < len(counts)):
            raise ValueError(f"of the budgets {counts} one must be {self.count}, and none twice")
        return self

    def rows(self, count: int | None = None) -> slice:
        """The rows of the output ``visual_tokens`` that make a picture of ``count`` tokens.

        Args:
            count: one of the budgets; None is the default.

        Raises:
            ConfigError: there is no such budget.
        """
        if count is None and not self.budgets:
            return slice(None)
        wanted = self.count if count is None else count
        for budget in self.budgets:
            if budget.count == wanted:
                return slice(budget.first, budget.first + wanted)
        there = ", ".join(str(budget.count) for budget in self.budgets)
        raise ConfigError(
            f"{wanted} visual tokens a picture: this bundle "
            + (f"has {there}" if there else "gives as many as its encoder does, and no choice")
        )
