"""What patches of a picture are held against banks with: the section ``matching`` of a manifest.

The graph ``vision`` gives float32 ``patches`` ``(rows * columns, width)``, each of length 1, row by
row over the encoder's input. The graph ``heads/match`` holds some of them against a bank, which is
input and not weight, so that teaching needs no export:

- float32 ``patches`` ``(n, width)``, any number of them, and ``places`` ``(n, 2)``, row and column;
- float32 ``bank`` ``(capacity, width)``: patches of length 1, and zeros behind them;
- float32 ``bank_places`` ``(capacity, 2)``: row and column where each was seen;
- float32 ``bank_penalties`` ``(capacity)``: 0 for a patch, ``EMPTY`` behind them;
- float32 ``radius`` ``(1)``: a patch is held only against those seen at most so many rows and
  columns away.

It gives float32 ``similarity`` ``(n)``, the cosine with the most similar patch of the
bank, below -1 where no patch was near enough, and int64 ``nearest``, its place in the bank.
"""

from __future__ import annotations

from pydantic import Field

from edgevlm.bundle.images import Side, Strict

GRAPH = "heads/match"
PATCHES_AT_ONCE = 1024  # of a picture, in one call: bounds the table of cosines
EMPTY = -4.0  # added to a cosine: no patch is less similar


class MatchSpec(Strict):
    """Patches of the encoder, and the banks that they can be held against."""

    rows: Side = Field(description="patches from top to bottom of the encoder's input")
    columns: Side = Field(description="patches from left to right")
    width: int = Field(ge=1, description="features of a patch")
    capacity: int = Field(ge=1, description="patches that a bank holds")
