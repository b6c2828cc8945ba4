"""A gate on features: has what an encoder sees changed since the last answer?

Every patch has an anchor: its features in the frame that was answered. TimeChat-Online (Yao et al.,
arXiv 2504.17343) drops visual tokens that resemble those of the frame before, by which slow change
passes for ever; an anchor that moves only with an answer lets it add up.

Distances of features mean nothing by themselves, and differ from encoder to encoder: here they are
held against the spread of the patches within a picture, and against the noise floor of each patch.
"""

from __future__ import annotations

import numpy as np

from edgevlm.gates import FeatureSection
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.encoders import Features, spread
from edgevlm.runtime.stream.gates.floor import Floor
from edgevlm.runtime.stream.gates.view import View
from edgevlm.tensors import Float32

TIMES = 3.0  # so many floors
LEAST, MOST = 0.35, 0.8  # of the spread; unrelated patches are about 1.4 of it apart
FLAT = 0.05  # of the mean square of features: no picture is taken to spread less
LAG = 5  # looks after which another frame becomes the one that noise is measured with


class FeatureGate:
    """Compares patches with those of the frame that was answered.

    ``measure`` is the number of patches that have changed.

    Args:
        section: settings.
        features: the encoder.
    """

    def __init__(self, section: FeatureSection, features: Features) -> None:
        self.measure: float | None = None
        self._patches = section.patches
        self._features = features
        self._floor = Floor(1e-6, np.inf)
        self._reference: Float32 | None = None
        self._age = 0
        self._anchor: Float32 | None = None
        self._candidate: Float32 | None = None

    def look(self, view: View) -> Verdict:
        """``same`` as the anchor, or ``new``; the first frame is new, as is one of another size."""
        rows = self._candidate = self._features.patches(view)
        self._learn(rows)
        if self._anchor is None or self._anchor.shape != rows.shape:
            self.measure = None
            return "new"
        flat = FLAT * float(np.square(rows).sum(axis=1).mean())
        scale = max(spread(rows), spread(self._anchor), flat, 1e-12) ** 0.5
        limits = self._floor.limits(TIMES, LEAST * scale, MOST * scale)
        self.measure = float(np.count_nonzero(_distances(rows, self._anchor) > limits))
        return "new" if self.measure >= self._patches else "same"

    def settle(self, answered: bool) -> None:  # noqa: ARG002 - every answer or drop is one
        """The patches last looked at are the anchors now."""
        self._anchor = self._candidate

    def _learn(self, rows: Float32) -> None:
        if self._reference is None or self._reference.shape != rows.shape:
            self._reference, self._age = rows, 0
            return
        self._floor.learn(_distances(rows, self._reference))
        self._age += 1
        if self._age >= LAG:
            self._reference, self._age = rows, 0


def _distances(rows: Float32, others: Float32) -> Float32:
    distances: Float32 = np.linalg.norm(rows - others, axis=1)
    return distances
