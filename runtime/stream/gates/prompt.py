"""A gate on a text: only frames that show what it says are answered."""

from __future__ import annotations

import numpy as np

from edgevlm.bundle.abilities import require
from edgevlm.errors import ConfigError
from edgevlm.gates import PromptSection
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.gates.base import Verdict
from edgevlm.runtime.stream.gates.view import View


class PromptGate:
    """Holds frames against texts, by the rule of a model that embeds both.

    The probability is that of ``prompts`` together; with ``against``, their share of both. It must
    reach the threshold for the gate to open, and fall below the release for it to close.

    ``measure`` is that probability.

    Args:
        section: settings.
        model: a loaded bundle, closed by whoever opened it.

    Raises:
        ContractError: the bundle cannot hold pictures against texts, or a text is too long.
        ConfigError: its model chooses among texts, and there is none to choose against.
    """

    def __init__(self, section: PromptSection, model: Vlm) -> None:
        manifest = model.bundle.manifest
        require(manifest, "classify")
        assert manifest.text is not None
        self._chooses = manifest.text.scores == "softmax"
        if self._chooses and not section.against:
            raise ConfigError(
                f"{manifest.name} chooses among texts, so that a single one always wins: give the "
                'gate what else there may be, as in against = ["an empty doorway"]'
            )
        self._texts = (*section.prompts, *section.against)
        model.encode_text(self._texts)  # a text that does not fit is refused now
        self._section = section
        self._model = model
        self._open = False
        self.measure: float | None = None

    def look(self, view: View) -> Verdict:
        """``new`` while what is waited for is there, else ``absent``."""
        section = self._section
        self.measure = score = self._score(view)
        release = section.threshold if section.release is None else section.release
        self._open = score >= (release if self._open else section.threshold)
        return "new" if self._open else "absent"

    def settle(self, answered: bool) -> None:
        """Nothing is compared with it."""

    def _score(self, view: View) -> float:
        area = self._section.area
        if area is None:
            seen = view.seen_by(self._model)
        else:
            rgb = view.frame.pixels.rgb()
            part = rgb[area.slices(rgb.shape[0], rgb.shape[1])]
            seen = self._model.encode(np.ascontiguousarray(part))
        chances = dict(self._model.classify(seen, self._texts, template="{}"))
        together = sum if self._chooses else max
        wanted = together(chances[text] for text in self._section.prompts)
        if not self._section.against:
            return wanted
        other = together(chances[text] for text in self._section.against)
        return wanted / max(wanted + other, 1e-12)
