"""What a stream does with every frame in place of asking a question: the section ``task``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

TaskKind = Literal["classify", "segment", "anomaly", "locate"]


class TaskSection(BaseModel):
    """One look at every frame, without a language model.

    ``classify`` and ``segment`` take ``labels`` and ``template`` as the commands do, and
    ``classify`` also ``none``; ``anomaly`` takes the bank of good pictures and ``locate`` those of
    things, or folders of them, and ``small``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: TaskKind
    labels: tuple[str, ...] = ()
    template: str | None = None
    none: bool = Field(default=False, description="the picture may show none of the labels")
    banks: tuple[str, ...] = Field(default=(), description="from edgevlm teach")
    small: bool = Field(default=False, description="look closer, for small things")

    @model_validator(mode="after")
    def _fits(self) -> TaskSection:
        texts = self.kind in ("classify", "segment")
        if texts != bool(self.labels):
            raise ValueError(f"{self.kind} takes {'labels' if texts else 'banks, and no labels'}")
        if texts == bool(self.banks):
            raise ValueError(f"{self.kind} takes {'no bank' if texts else 'a bank'}")
        if self.kind == "anomaly" and len(self.banks) > 1:
            raise ValueError("anomaly takes one bank")
        for name, given, of in (
            ("template", self.template is not None, ("classify", "segment")),
            ("none", self.none, ("classify",)),
            ("small", self.small, ("locate",)),
        ):
            if given and self.kind not in of:
                raise ValueError(f"{name} is of {' and '.join(of)}, not of {self.kind}")
        return self
