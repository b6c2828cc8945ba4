"""What points and boxes become masks with: the section ``masks`` of a manifest.

The graph ``heads/mask`` takes ``image_embeddings`` of the graph ``vision``, float32 ``points``
``(prompts, n, 2)``, x and y in pixels of the encoder's input, and int64 ``labels``
``(prompts, n)``. It gives float32 ``masks`` ``(prompts, candidates, mask_size, mask_size)``, as
logits, and float32 ``scores`` ``(prompts, candidates)``. The first candidate answers a prompt that
is clear; the others are the readings of an ambiguous one, such as a single point. Where there is
one candidate, it answers every prompt.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.bundle.images import Side, Strict

GRAPH = "heads/mask"
BACKGROUND, FOREGROUND, UPPER_LEFT, LOWER_RIGHT = 0, 1, 2, 3
PADDING = -1  # no point: closes every list of points that has no box
IGNORED = -10  # fills up lists of points that are shorter than the others


class MaskSpec(Strict):
    """How masks are asked for, and what is made of them."""

    input_size: Side = Field(description="height and width of the encoder's input, in pixels")
    mask_size: Side = Field(description="height and width of a mask")
    candidates: int = Field(ge=1, description="masks of one prompt, the unambiguous one first")
    threshold: float = Field(default=0.0, description="a logit over it is inside")
