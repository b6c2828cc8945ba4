"""How a picture reaches the vision encoder, and what stands for it in the prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Side = Annotated[int, Field(ge=1, le=8192)]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fit(Strict):
    """One picture of one size.

    ``letterbox`` keeps the aspect ratio and fills around with ``background``; ``corner`` likewise,
    but to the right and below only; ``stretch`` does not keep it; ``crop`` keeps it and cuts what
    is over, centred; ``square`` first pads to a square with ``background``, then resizes.
    ``shortest`` resizes the shorter side to ``shortest`` and cuts the centre.
    """

    kind: Literal["fit"] = "fit"
    height: Side
    width: Side
    fit: Literal["letterbox", "corner", "stretch", "crop", "square", "shortest"]
    background: tuple[int, int, int] = (255, 255, 255)
    shortest: int | None = Field(default=None, ge=1)
    round_half_even: bool = Field(
        default=False,
        description="where the cut of shortest begins, if half a pixel is left: at the even one as "
        "torchvision has it, or before it",
    )
    zero_padding: bool = Field(
        default=False,
        description="what is beside the picture counts as zero behind the normalisation: the graph "
        "takes extent, the picture's height and width in its upper left corner",
    )


class Idefics3Tiles(Strict):
    """Resize the longer side, round up to whole tiles, cut, and add the whole picture.

    Source: Idefics3 (Laurençon et al., 2024), section 2.2; SmolVLM keeps it.
    """

    kind: Literal["idefics3_tiles"] = "idefics3_tiles"
    longest: int = Field(ge=1)
    tile: Side
    split: bool = True


class InternVLTiles(Strict):
    """The grid of tiles whose aspect ratio is nearest, and a thumbnail behind them.

    Source: InternVL 1.5 (Chen et al., 2024), section 3.2, "Dynamic High-Resolution".
    """

    kind: Literal["internvl_tiles"] = "internvl_tiles"
    tile: Side
    least: int = Field(ge=1)
    most: int = Field(ge=1)
    split: bool = True


class AnyResolution(Strict):
    """The best of several canvases, cut into tiles behind the whole picture.

    Visual rows of padding are dropped, every row of the canvas ends with a learned newline, and
    canvases of more than ``most_tiles`` tiles of rows are scaled down. A prompt of several
    pictures takes each as one padded square.

    Source: LLaVA-OneVision (Li et al., 2024), section 3.2, "AnyRes"; transformers'
    ``LlavaOnevisionModel.pack_image_features``.
    """

    kind: Literal["any_resolution"] = "any_resolution"
    tile: Side
    canvases: tuple[tuple[int, int], ...] = Field(min_length=1, description="(height, width)")
    side: int = Field(ge=1, description="visual rows along one side of a tile")
    most_tiles: int | None = Field(default=None, ge=1)
    background: tuple[int, int, int] = (127, 127, 127)


class SmartResize(Strict):
    """Native resolution: both sides to multiples of ``patch * merge``, within a budget of pixels.

    Source: Qwen2-VL (Wang et al., 2024), section 2.1, "Naive Dynamic Resolution"; transformers'
    ``smart_resize``.
    """

    kind: Literal["smart_resize"] = "smart_resize"
    patch: int = Field(ge=1)
    merge: int = Field(ge=1)
    least_pixels: int = Field(ge=1)
    most_pixels: int = Field(ge=1)
    head_dim: int = Field(ge=4, description="of the encoder, whose rotary angles follow the grid")
    rope_theta: float = 10000.0
    window: int | None = Field(default=None, ge=1, description="pixels along a side of a window")
    table_side: int | None = Field(default=None, ge=1, description="of the position table")


class Lfm2Tiles(Strict):
    """Native resolution within a budget of tokens; what is far larger becomes tiles as well.

    A picture over ``tolerance`` times the budget is cut as ``InternVLTiles`` does it, and the whole
    picture, at its native resolution, stands behind the tiles as a thumbnail.

    Source: LFM2-VL (Liquid AI, 2025); transformers' ``Lfm2VlImageProcessor``.
    """

    kind: Literal["lfm2_tiles"] = "lfm2_tiles"
    tile: Side
    least: int = Field(ge=2, description="tiles of a picture that is cut")
    most: int = Field(ge=2)
    split: bool = True
    thumbnail: bool = True
    patch: int = Field(ge=1)
    merge: int = Field(ge=1, description="patches along a side of what becomes one token")
    least_tokens: int = Field(ge=1, description="of the whole picture")
    most_tokens: int = Field(ge=1)
    tolerance: float = Field(default=2.0, gt=0)
    table_side: int = Field(ge=1, description="of the position table")


class NativePatches(Strict):
    """Whole patches in the picture's own aspect ratio, as many as there may be.

    Source: SigLIP 2 (Tschannen et al., 2025), section 2.4.2, "NaFlex"; transformers'
    ``get_image_size_for_max_num_patches``.
    """

    kind: Literal["native_patches"] = "native_patches"
    patch: int = Field(ge=1)
    most_patches: int = Field(ge=1)
    table_side: int = Field(ge=1, description="of the position table")


Policy = Annotated[
    Fit | Idefics3Tiles | InternVLTiles | AnyResolution | SmartResize | Lfm2Tiles | NativePatches,
    Field(discriminator="kind"),
]


class Expansion(Strict):
    """What stands for a picture in the prompt: visual segments, and texts around them.

    ``before_tile`` may hold ``{row}`` and ``{column}``, counted from 1. A picture of one tile is
    written as ``single``, the tile, ``suffix``.
    """

    prefix: str = ""
    before_tile: str = ""
    row_end: str = ""
    before_whole: str = Field(default="", description="before the whole picture, behind its tiles")
    suffix: str = ""
    single: str = ""


class ImageSpec(Strict):
    """From a picture, uint8 RGB ``(height, width, 3)``, to what the vision graph takes."""

    policy: Policy
    resample: Resample = "bicubic"
    reducing_gap: float | None = Field(
        default=None, ge=1.0, description="Pillow's: shrink by whole factors first, then resample"
    )
    alpha: Literal["drop", "white"] = "drop"
    follows: str = Field(default="", description="the processor whose pixels this reproduces")
    expansion: Expansion = Expansion()

    def describe(self) -> str:
        """The policy in a few words."""
        policy = self.policy
        if isinstance(policy, Fit):
            return f"{policy.height}x{policy.width} {policy.fit}"
        if isinstance(policy, SmartResize):
            return f"native resolution, {policy.least_pixels} to {policy.most_pixels} pixels"
        if isinstance(policy, NativePatches):
            side = policy.patch
            return f"native aspect ratio, up to {policy.most_patches} patches of {side}x{side}"
        return f"tiles of {policy.tile}x{policy.tile} ({policy.kind})"
