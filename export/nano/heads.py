"""nano's trained heads together: what they add to the vision graph, in numpy and as nodes.

::

    encoder ─ neck ─ cells ─┬─ semantic head ─ patch_embeds, embedding, cell_chance
                            ├─ connector ───── visual_tokens, of every budget
                            └─ mask head ───── image_embeddings

``export/nano_train/heads.py`` holds the same computation in torch, where it is trained; the names
of the tensors are those of the file that both share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano import mask_head, neck, queries, semantic
from edgevlm.export.nano.trained_file import TrainedFile
from edgevlm.tensors import Array, Float32

FILE = "heads.safetensors"
SHOWN = "cell_chance"  # of the outputs
SMALLEST, LARGEST = 224, 448  # pixels along a side of the pictures that the heads are made for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heads:
    """The heads."""

    neck: neck.Neck
    semantic: semantic.Semantic
    connector: queries.Queries
    mask: mask_head.MaskHead

    def outputs(self, blocks: list[Float32], guess: Float32) -> dict[str, Array]:
        """What they give of one picture, by the name of the output.

        Args:
            blocks: what every block of the encoder gives, float32 ``(channels, height, width)``.
            guess: the closed-form tokens of all windows, float32 ``(TOKENS, HIDDEN)``.
        """
        fine, middle, coarse = (
            blocks[n] for n in (neck.FINE_BLOCK, neck.MIDDLE_BLOCK, neck.COARSE_BLOCK)
        )
        cells = self.neck.apply(fine, middle, coarse)
        rows = cells.reshape(neck.WIDTH, -1).T
        return {
            "visual_tokens": self.connector.apply(rows, guess),
            "embedding": self.semantic.pictures(rows),
            "patch_embeds": self.semantic.cells(rows)[None],
            SHOWN: self.semantic.chance(rows),
            "image_embeddings": self.mask.embed(fine, cells)[None],
        }

    def lower(self, g: GraphBuilder, blocks: list[str], guess: str, size: int) -> None:
        """Write ``outputs`` into the vision graph, and declare them.

        Args:
            g: the graph, with the encoder in it.
            blocks: names of what ``outputs`` takes, with a batch of 1.
            guess: likewise.
            size: height and width of the encoder's input, in pixels.
        """
        side = size // neck.STRIDE
        cells = self.neck.lower(g, blocks, side)
        patch_embeds, embedding, chance = self.semantic.lower_pictures(g, cells.rows)
        fine = blocks[neck.FINE_BLOCK]
        found = {
            "visual_tokens": self.connector.lower(g, cells.rows, guess, side),
            "embedding": embedding,
            "patch_embeds": patch_embeds,
            SHOWN: chance,
            "image_embeddings": self.mask.lower_embed(g, fine, cells.plane),
        }
        for name, value in found.items():
            g.node("Identity", [value], name, outputs=[name])
        width, wide = semantic.ALIGNED, size // mask_head.STRIDE
        tokens = (queries.TOKENS, semantic.HIDDEN)
        g.output("visual_tokens", "float32", tokens, "rows for the decoder, of every budget")
        g.output("embedding", "float32", (1, width), "of the picture, of length 1")
        cells_shape = (1, side * side, width)
        g.output("patch_embeds", "float32", cells_shape, "of every cell, of length 1")
        g.output(SHOWN, "float32", (1, side * side, 1), "chance of a thing in every cell")
        planes = (1, mask_head.EMBEDDED, wide, wide)
        g.output("image_embeddings", "float32", planes, "for heads/mask")


def read_heads(folder: Path) -> Heads:
    """The heads as they were trained.

    Args:
        folder: that holds ``FILE``.

    Raises:
        CheckpointError: no such file, a damaged one, or other tensors in it.
    """
    file = TrainedFile(folder / FILE)
    found = Heads(
        neck=neck.Neck.read(file),
        semantic=semantic.Semantic.read(file),
        connector=queries.Queries.read(file),
        mask=mask_head.MaskHead.read(file),
    )
    file.done()
    return found
