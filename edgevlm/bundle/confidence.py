"""How a bundle's confidences are scaled, so that they are shares of right answers."""

from __future__ import annotations

from pydantic import Field

from edgevlm.bundle.images import Strict


class ConfidenceSpec(Strict):
    """Temperatures that logits are divided by before a confidence is read off them.

    They change no answer. Source: temperature scaling, On Calibration of Modern Neural Networks,
    Guo et al., 2017, section 4.2.
    """

    fields: float = Field(gt=0, description="of values under a schema")
    answers: float = Field(gt=0, description="of free answers")
    fitted_on: str = Field(description="the labelled pictures that both were fitted on")


UNCALIBRATED = ConfidenceSpec(fields=1.0, answers=1.0, fitted_on="nothing")
