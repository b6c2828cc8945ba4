"""A gate at scene boundaries: one answer a scene."""

from __future__ import annotations

import numpy as np

from edgevlm.gates import SceneSection
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.cells import block_means
from edgevlm.runtime.stream.gates.encoders import Features
from edgevlm.runtime.stream.gates.tilling import Boundaries
from edgevlm.runtime.stream.gates.view import View
from edgevlm.tensors import Float32


class SceneGate:
    """Lets a frame through when a scene begins, until it has been decided.

    ``measure`` is the depth of the valley in front of a frame.

    Args:
        section: settings.
        features: what frames are compared by; None: the pattern of their brightness.
    """

    def __init__(self, section: SceneSection, features: Features | None = None) -> None:
        self.measure: float | None = None
        self._least_s = section.least_s
        self._features = features
        self._boundaries = Boundaries(section.alpha, section.least_depth)
        self._before: Float32 | None = None
        self._before_s = self._now_s = 0.0
        self._begun_s: float | None = None
        self._undecided = True

    def look(self, view: View) -> Verdict:
        """``new`` from the first frame of a scene on until one is decided, then ``same``."""
        vector = self._vector(view)
        before, self._before = self._before, vector
        since_s, self._before_s = view.now_s - self._before_s, view.now_s
        self._now_s = view.now_s
        if before is not None and before.shape == vector.shape:
            self.measure, begins = self._boundaries.push(float(before @ vector), since_s)
            self._undecided |= begins
        if self._begun_s is not None and 0 <= view.now_s - self._begun_s < self._least_s:
            return "same"
        return "new" if self._undecided else "same"

    def settle(self, answered: bool) -> None:  # noqa: ARG002 - every answer or drop is one
        """The scene has been decided about."""
        self._undecided = False
        self._begun_s = self._now_s

    def _vector(self, view: View) -> Float32:
        if self._features is not None:
            vector = self._features.whole(view)
        else:
            means = block_means(view.cells()).reshape(-1)
            vector = means - means.mean()
        length = float(np.linalg.norm(vector))
        unit: Float32 = vector / max(length, 1e-6)
        return unit
