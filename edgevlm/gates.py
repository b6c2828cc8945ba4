"""Gates as users write them: which frames get an answer of their own (``docs/gates.md``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgevlm.area import Area


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str | None = Field(default=None, min_length=1, description="in the summary; else kind")


class PixelSection(_Section):
    """Nothing new, if the brightness is that of the frame that was answered.

    Args:
        blocks: so many of 80 x 45 blocks must differ for the frame to be new.
        ignore: parts of the picture that are not looked at, such as a clock that is drawn into it.
    """

    kind: Literal["pixel"] = "pixel"
    blocks: int = Field(default=2, ge=1, le=3600)
    ignore: tuple[Area, ...] = ()


class MotionSection(_Section):
    """Waits until the view has been still: for cameras on arms, heads and wheels.

    Args:
        still_s: for so long, in seconds of the source.
        share: the view is in motion while more than this share of its blocks differs from the
            frame before.
        ignore: as in ``pixel``.
    """

    kind: Literal["motion"] = "motion"
    still_s: float = Field(default=0.5, ge=0)
    share: float = Field(default=0.02, ge=0, lt=1)
    ignore: tuple[Area, ...] = ()


class SilenceSection(_Section):
    """An answer is due, whatever the gates behind this one say.

    Args:
        every_s: if the last answer is so old, in seconds of the source.
    """

    kind: Literal["silence"] = "silence"
    every_s: float = Field(gt=0)


class FeatureSection(_Section):
    """Nothing new, if every patch looks as it did in the frame that was answered, to an encoder.

    Args:
        patches: so many patches must differ for the frame to be new.
        bundle: whose encoder looks; without it the model that answers, and an answer does not
            encode again what this gate had encoded.
        backend: of ``bundle``.
    """

    kind: Literal["feature"] = "feature"
    patches: int = Field(default=1, ge=1)
    bundle: str | None = None
    backend: str = "ort-cpu"


class SceneSection(_Section):
    """One answer a scene: new is only what comes behind a boundary.

    Args:
        on: what frames are compared by.
        bundle: as in ``feature``, for ``on = "features"``.
        backend: of ``bundle``.
        alpha: a boundary is so many standard deviations deeper than usual.
        least_depth: and so deep at least, as a difference of cosines.
        least_s: no scene is shorter, in seconds of the source.
    """

    kind: Literal["scene"] = "scene"
    on: Literal["luma", "features"] = "luma"
    bundle: str | None = None
    backend: str = "ort-cpu"
    alpha: float = Field(default=3.0, ge=0)
    least_depth: float = Field(default=0.1, ge=0, le=2)
    least_s: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _needs_features(self) -> SceneSection:
        if self.bundle is not None and self.on == "luma":
            raise ValueError('a bundle is looked through with on = "features" only')
        return self


class PromptSection(_Section):
    """Only frames that show what a text says: "a person stands at the door".

    Args:
        bundle: with a text encoder beside an image encoder (CLIP, SigLIP, MobileCLIP, SAM-CLIP).
        backend: of ``bundle``.
        prompts: what is waited for; any of them will do. Taken as they are, without a template.
        against: what it may be instead; models that choose among texts (CLIP) need some.
        threshold: from this probability on it is there.
        release: below this one it is gone again; None: ``threshold``.
        area: the part of the picture that is looked at.
    """

    kind: Literal["prompt"] = "prompt"
    bundle: str
    backend: str = "ort-cpu"
    prompts: tuple[str, ...] = Field(min_length=1)
    against: tuple[str, ...] = ()
    threshold: float = Field(default=0.5, gt=0, le=1)
    release: float | None = Field(default=None, gt=0, le=1)
    area: Area | None = None

    @model_validator(mode="after")
    def _hysteresis(self) -> PromptSection:
        if self.release is not None and self.release > self.threshold:
            raise ValueError(f"release {self.release} is above the threshold {self.threshold}")
        return self


GateSection = Annotated[
    Union[  # noqa: UP007 - pydantic on 3.10
        PixelSection, MotionSection, SilenceSection, FeatureSection, SceneSection, PromptSection
    ],
    Field(discriminator="kind"),
]


def named(sections: Sequence[GateSection]) -> tuple[str, ...]:
    """The names of gates, checked.

    Raises:
        ValueError: two of one name, or a list that cannot mean what it says.
    """
    names = tuple(section.name or section.kind for section in sections)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two gates are called {twice[0]!r}: give each a name")
    if sections and isinstance(sections[-1], SilenceSection):
        raise ValueError("a silence gate overrules the gates behind it, and the last one has none")
    return names


def _checked(sections: tuple[GateSection, ...]) -> tuple[GateSection, ...]:
    named(sections)
    return sections


GateList = Annotated[tuple[GateSection, ...], AfterValidator(_checked)]
DEFAULT: tuple[GateSection, ...] = (PixelSection(),)
