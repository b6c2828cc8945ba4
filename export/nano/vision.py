"""nano's vision graph: uint8 pixels to features, classes, patches and visual tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgevlm.bundle.manifest import GraphEntry
from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.model_parts import Lowered
from edgevlm.export.nano import efficientnet
from edgevlm.export.nano.connector import Connector
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
        pool: the compressor.
        image_size: height and width of the input, a multiple of 32.
    """

    net: efficientnet.EfficientNetLite
    patches: PatchStage
    connector: Connector
    pool: GridPool
    image_size: int

    @property
    def steps(self) -> int:
        """Told once."""
        return 1

    @property
    def grid(self) -> int:
        """Cells along one side of the feature map."""
        return self.image_size // efficientnet.STRIDE

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
            tokens = self.connector.lower(g, features, self.pool, self.grid)
            g.node("Identity", [tokens], "visual_tokens", outputs=["visual_tokens"])
            found = self.patches.lower(g, blocks)
            g.node("Identity", [found], "patches", outputs=["patches"])
            g.output("visual_tokens", "float32", (self.pool.tokens, hidden), "rows for the decoder")
            g.output("features", "float32", (1, channels, self.grid, self.grid), "feature map")
            g.output("class_logits", "float32", (1, classes), "ImageNet scores")
            g.output("class_probabilities", "float32", (1, classes), "softmax of the scores")
            shape = ((size // STRIDE) ** 2, self.patches.width)
            g.output("patches", "float32", shape, "small places, row by row, of length 1")
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
        return {
            "features": features[None],
            "class_logits": logits[None],
            "class_probabilities": (weights / weights.sum())[None],
            "patches": self.patches.apply(blocks),
            "visual_tokens": self.connector.apply((flat @ self.pool.matrix(self.grid)).T),
        }
