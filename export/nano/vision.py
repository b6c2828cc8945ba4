"""nano's vision graph: uint8 pixels to features, classes, patches, and what its heads give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.manifest import GraphEntry
from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.nano import efficientnet, queries
from edgevlm.export.nano.connector import Connector
from edgevlm.export.nano.heads import Heads
from edgevlm.export.nano.patches import STRIDE, PatchStage
from edgevlm.export.precision import PrecisionPlan
from edgevlm.export.progress import Progress
from edgevlm.export.reference.efficientnet import forward
from edgevlm.tensors import Array, Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NanoVision:
    """Encoder, classifier and connector at one input size.

    Args:
        net: the encoder.
        patches: what is said of small places.
        connector: features to tokens.
        pool: the compressor of pictures in the default budget.
        image_size: height and width of the input, a multiple of 32.
        heads: what was trained on the encoder; None leaves the tokens as the connector guesses
            them, in the default budget.
    """

    net: efficientnet.EfficientNetLite
    patches: PatchStage
    connector: Connector
    pool: GridPool
    image_size: int
    heads: Heads | None = None

    @property
    def steps(self) -> int:
        """Told once."""
        return 1

    @property
    def grid(self) -> int:
        """Cells along one side of the feature map."""
        return self.image_size // efficientnet.STRIDE

    @property
    def _windows(self) -> Float32:
        """Cells of the feature map that each guess is the mean of, ``(cells, tokens)``."""
        if self.heads is None:
            return self.pool.matrix(self.grid)
        return queries.guess_windows(self.grid)

    def lower(self, folder: Path, plan: PrecisionPlan, progress: Progress) -> Lowered:  # noqa: ARG002
        """Write ``vision.onnx`` and its data file, in float32 whatever the decoder gets."""
        size, hidden = self.image_size, self.connector.weight.shape[1]
        channels, classes = efficientnet.HEAD_CHANNELS, len(self.net.classifier)
        with DataFile(folder / "vision.onnx.data") as data:
            g = GraphBuilder("vision", data)
            g.input("image", "uint8", (size, size, 3), "RGB pixels")
            blocks = efficientnet.lower(g, self.net, "image", size)
            features = blocks[-1]
            g.node("Identity", [features], "features", outputs=["features"])
            axes = g.constant("pool.axes", np.array([2, 3], np.int64))
            pooled = g.node("ReduceMean", [features, axes], "classifier", keepdims=0)
            g.weight("classifier.weight", self.net.classifier)
            g.weight("classifier.bias", self.net.classifier_bias)
            scores = g.node(
                "Gemm", [pooled, "classifier.weight", "classifier.bias"], "classifier", transB=1
            )
            g.node("Identity", [scores], "class_logits", outputs=["class_logits"])
            g.node("Softmax", [scores], "classifier", outputs=["class_probabilities"], axis=-1)
            guess = self.connector.lower(g, features, self._windows)
            if self.heads is None:
                g.node("Identity", [guess], "visual_tokens", outputs=["visual_tokens"])
                shape = (self.pool.tokens, hidden)
                g.output("visual_tokens", "float32", shape, "rows for the decoder")
            else:
                self.heads.lower(g, blocks, guess, size)
            found = self.patches.lower(g, blocks)
            g.node("Identity", [found], "patches", outputs=["patches"])
            g.output("features", "float32", (1, channels, self.grid, self.grid), "feature map")
            g.output("class_logits", "float32", (1, classes), "ImageNet scores")
            g.output("class_probabilities", "float32", (1, classes), "softmax of the scores")
            places = (size // STRIDE) ** 2, self.patches.width
            g.output("patches", "float32", places, "small places, row by row, of length 1")
            g.save(folder / "vision.onnx")
        progress.step("vision encoder")
        entry = GraphEntry(
            file="vision.onnx",
            lowering="onnx",
            opset=g.opset,
            precision="fp32",
            inputs=tuple(g.inputs),
            outputs=tuple(g.outputs),
        )
        return Lowered({"vision": entry})

    def reference(self, image_rgb: NDArray[np.uint8]) -> dict[str, Array]:
        """The same outputs in plain numpy."""
        blocks = forward(self.net, image_rgb)
        features = blocks[-1]
        flat = features.reshape(len(features), -1)
        logits: Float32 = self.net.classifier @ flat.mean(1) + self.net.classifier_bias
        weights = np.exp(logits - logits.max())
        guess = self.connector.apply((flat @ self._windows).T)
        return {
            "features": features[None],
            "class_logits": logits[None],
            "class_probabilities": (weights / weights.sum())[None],
            "patches": self.patches.apply(blocks),
            **(
                {"visual_tokens": guess}
                if self.heads is None
                else self.heads.outputs(blocks, guess)
            ),
        }
