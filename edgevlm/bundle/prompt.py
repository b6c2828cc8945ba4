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


class ScenePrompt(Strict):
    """Perceive, then reason: what stands where is written into the prompt, behind the labels.

    The mask head is asked at every cell that shows a thing, masks that mean the same thing are put
    together, and each thing is named by the text encoder. Cosines are scaled by its logit scale.
    """

    file: str = Field(description="JSON list of words: see edgevlm.bundle.scene_words")
    output: str = Field(description="the vision graph's output with the chance of a thing a cell")
    shown: float = Field(default=0.5, ge=0, le=1, description="cells with less are background")
    sure: float = Field(default=0.5, ge=0, le=1, description="expected overlap of a mask, at least")
    overlap: float = Field(default=0.5, ge=0, le=1, description="masks with more are one thing")
    fresh: float = Field(default=0.3, ge=0, le=1, description="share that no better mask covers")
    named: float = Field(default=0.5, ge=0, le=1, description="a name with less is not told")
    asked: float = Field(
        default=-7.0, le=0, description="log chance at which what a question names is there"
    )
    labelled: float = Field(
        default=0.6, ge=0, le=1, description="the best label with more names the largest thing"
    )
    alike: float = Field(default=0.7, ge=0, le=1, description="cosine of things of one name")
    most: int = Field(default=8, ge=1, description="things that are told")


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
    scene: ScenePrompt | None = None
    rules: GenerationRules = GenerationRules()
