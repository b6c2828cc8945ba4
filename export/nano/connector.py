"""From encoder features to the language model's embedding space, without training.

Every ImageNet class has a prototype on both sides: its row in the encoder's classifier, and the
mean of the word embeddings of its name. Ridge regression between the two sets is a linear map in
closed form; a grid cell, standardised and scaled to unit length, goes through it.

The trained connector (``queries.py``) corrects what this one guesses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgevlm.export.graph import GraphBuilder
from edgevlm.export.nano.efficientnet import BATCH_NORM_EPS
from edgevlm.tensors import Array, Float32

RIDGE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connector:
    """``token = centre + length * unit(unit((x - mean) / deviation) @ weight)``.

    Args:
        mean: float32 ``(features,)``.
        deviation: float32 ``(features,)``, positive.
        weight: float32 ``(features, hidden)``.
        centre: float32 ``(hidden,)``, mean of the class names' embeddings.
        length: of the token around its centre: the mean length of a word embedding.
    """

    mean: Float32
    deviation: Float32
    weight: Float32
    centre: Float32
    length: float

    def apply(self, cells: Float32) -> Float32:
        """Visual tokens ``(tokens, hidden)`` of pooled cells ``(tokens, features)``."""
        tokens: Float32 = _unit((cells - self.mean) / self.deviation) @ self.weight
        return np.asarray(self.centre + np.float32(self.length) * _unit(tokens), np.float32)

    def lower(self, graph: GraphBuilder, features: str, windows: Float32) -> str:
        """Write pooling and connector.

        Args:
            graph: being built.
            features: float32 ``(1, channels, height, width)``.
            windows: the pooling, float32 ``(height * width, tokens)``; columns sum to 1.

        Returns:
            the visual tokens, float32 ``(tokens, hidden)``.
        """
        channels = len(self.weight)
        place = "connector"
        shape = graph.constant("connector.shape", np.array([channels, len(windows)], np.int64))
        flat = graph.node("Reshape", [features, shape], place)
        graph.weight("connector.pool", windows)
        pooled = graph.node("MatMul", [flat, "connector.pool"], f"{place}/pool")
        cells = graph.node("Transpose", [pooled], place, perm=[1, 0])
        graph.weight("connector.mean", self.mean)
        graph.weight("connector.precision", (1 / self.deviation).astype(np.float32))
        x = graph.node("Sub", [cells, "connector.mean"], place)
        x = graph.node("Mul", [x, "connector.precision"], place)
        x = _lower_unit(graph, x, f"{place}/features")
        graph.weight("connector.weight", self.weight)
        x = graph.node("MatMul", [x, "connector.weight"], f"{place}/ridge")
        x = _lower_unit(graph, x, f"{place}/token")
        length = graph.constant("connector.length", np.float32(self.length))
        x = graph.node("Mul", [x, length], f"{place}/token")
        graph.weight("connector.centre", self.centre)
        return graph.node("Add", [x, "connector.centre"], f"{place}/token")


def _unit(x: Float32) -> Float32:
    scaled: Float32 = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return scaled


def _lower_unit(graph: GraphBuilder, x: str, place: str) -> str:
    axis = graph.constant("connector.axis", np.array([-1], np.int64))
    least = graph.constant("connector.least", np.float32(1e-12))
    norm = graph.node("ReduceL2", [x, axis], place, keepdims=1)
    return graph.node("Div", [x, graph.node("Max", [norm, least], place)], place)


def clipped_moments(mean: Array, deviation: Array, top: float = 6.0) -> tuple[Array, Array]:
    """Mean and variance of ``clip(X, 0, top)`` for ``X`` normal, elementwise, in closed form."""
    low, high = -mean / deviation, (top - mean) / deviation

    def cumulative(z: Array) -> Array:
        return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])

    def density(z: Array) -> Array:
        gauss: Array = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return gauss

    inside, over = cumulative(high) - cumulative(low), 1 - cumulative(high)
    first = density(low) - density(high)
    second = inside + low * density(low) - high * density(high)
    average = mean * inside + deviation * first + top * over
    square = mean**2 * inside + 2 * mean * deviation * first + deviation**2 * second
    return average, np.maximum(square + top**2 * over - average**2, 0)


def fit(state: dict[str, Array], names: Float32, word_length: float) -> Connector:
    """Solve the connector.

    The distribution of the features is read off the last batch norm: before ReLU6 a channel is
    normal with the norm's bias as mean and its gain as deviation. No picture is needed.

    Args:
        state: tensors of EfficientNet-Lite, classifier and last batch norm among them.
        names: float32 ``(classes, hidden)``, mean word embedding of every class name.
        word_length: mean length of a word embedding.

    Source: ridge regression (Hoerl and Kennard, 1970), equation 2.1; standardising the features
    makes a classifier row the direction of its class mean, as in linear discriminant analysis.
    """
    gain = np.abs(state["_bn1.weight"].astype(np.float64)) + BATCH_NORM_EPS
    mean, variance = clipped_moments(state["_bn1.bias"].astype(np.float64), gain)
    deviation = np.sqrt(variance + 1e-4)
    rows = state["_fc.weight"].astype(np.float64)
    inputs = (rows - rows.mean(0)) * deviation
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    centre = names.astype(np.float64).mean(0)
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    weight = np.linalg.solve(gram, inputs.T @ (names - centre))
    return Connector(
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
        weight=weight.astype(np.float32),
        centre=centre.astype(np.float32),
        length=word_length,
    )
