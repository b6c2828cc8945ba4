"""The encoder's three stages for pictures, computed once: it stays as its package has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgevlm.export.graph import DataFile, GraphBuilder
from edgevlm.export.nano import efficientnet, packages
from edgevlm.export.nano.efficientnet import EfficientNetLite
from edgevlm.export.torch_legacy import read_state_dict
from edgevlm.frame import UInt8
from edgevlm.tensors import Array, Float32

FINE_BLOCK, MIDDLE_BLOCK, NARROW_BLOCK = 5, 11, 16  # counting the stem; 40, 112, 320 channels
NARROW = 320


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stages:
    """Of one picture.

    Args:
        fine: float32 ``(40, side / 8, side / 8)``.
        middle: float32 ``(112, side / 16, side / 16)``.
        narrow: float32 ``(320, side / 32, side / 32)``, before the encoder's last convolution.
        class_probabilities: float32 ``(1000,)`` of the encoder's own classifier.
    """

    fine: Float32
    middle: Float32
    narrow: Float32
    class_probabilities: Float32


def encoder() -> tuple[EfficientNetLite, dict[str, Array]]:
    """The encoder of nano's package, folded, and its tensors."""
    state = read_state_dict(packages.ENCODER.locate())
    return efficientnet.from_state_dict(state), state


class FrozenTrunk:
    """Runs it in ONNX Runtime.

    Args:
        side: of the square pictures.
        threads: of the engine.
    """

    def __init__(self, side: int = 224, threads: int = 1) -> None:
        import onnxruntime as ort

        net, _ = encoder()
        names = ("fine", "middle", "narrow", "class_probabilities")
        with TemporaryDirectory() as folder:
            path = Path(folder, "trunk.onnx")
            with DataFile(path.with_suffix(".onnx.data")) as data:
                g = GraphBuilder("trunk", data)
                g.input("image", "uint8", (side, side, 3), "RGB pixels")
                blocks = efficientnet.lower(g, net, "image", side)
                chosen = (FINE_BLOCK, MIDDLE_BLOCK, NARROW_BLOCK)
                for name, n, stride in zip(names, chosen, (8, 16, 32), strict=False):
                    g.node("Identity", [blocks[n]], name, outputs=[name])
                    width = len(net.blocks[n].convs[-1].weight)
                    g.output(name, "float32", (1, width, side // stride, side // stride), name)
                axes = g.constant("pool.axes", np.array([2, 3], np.int64))
                pooled = g.node("ReduceMean", [blocks[-1], axes], "classifier", keepdims=0)
                g.weight("classifier.weight", net.classifier)
                g.weight("classifier.bias", net.classifier_bias)
                scores = g.node("Gemm", [pooled, "classifier.weight", "classifier.bias"],
                                "classifier", transB=1)  # fmt: skip
                g.node("Softmax", [scores], names[3], outputs=[names[3]], axis=-1)
                g.output(names[3], "float32", (1, len(net.classifier)), "ImageNet")
                g.save(path)
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            self._session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        self._names = list(names)

    def run(self, image_rgb: UInt8) -> Stages:
        """The stages of a picture, uint8 ``(side, side, 3)``."""
        fine, middle, narrow, probabilities = self._session.run(self._names, {"image": image_rgb})
        return Stages(
            fine=fine[0], middle=middle[0], narrow=narrow[0], class_probabilities=probabilities[0]
        )
