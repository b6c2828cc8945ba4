"""How messages become tokens, and what is asked of the answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgevlm.bundle.generation import GenerationRules
from edgevlm.bundle.images import Strict


class LabelPrompt(Strict):
    """Perceive, then reason: the encoder's best labels are written into the prompt.

    ``template`` holds ``{labels}``; each label is written as ``item`` with ``{name}`` and
    ``{percent}``. Labels under ``min_probability`` are left out, the best one excepted.
    """

    file: str = Field(description="JSON list of class names, in the order of the scores")
    output: str = Field(description="the vision graph's output with one probability per class")
    top: int = Field(ge=1)
    min_probability: float = Field(ge=0.0, le=1.0)
    template: str
    item: str


class PromptSpec(Strict):
    """How messages become tokens."""

    chat_template: str | None = Field(
        default="chat_template.jinja", description="None: the text is the prompt"
    )
    image_marker: str = Field(
        default="<|image|>", description="stands for one picture in the rendered prompt"
    )
    image_token_id: int | None = Field(
        default=None, description="the token of the marker; None: the marker is no token"
    )
    content: Literal["text", "parts"] = Field(
        default="text", description="what the template takes: one string a turn, or its parts"
    )
    system: str | None = Field(default=None, description="system turn when the caller gives none")
    bos_token_id: int | None = None
    add_bos: bool = False
    stop_token_ids: tuple[int, ...] = Field(min_length=1)
    labels: LabelPrompt | None = None
    rules: GenerationRules = GenerationRules()
