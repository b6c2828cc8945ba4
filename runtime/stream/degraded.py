"""What every event says while a model is not as it should be."""

from __future__ import annotations

from edgevlm.runtime.stream.model import Model


def degraded_by(model: Model) -> tuple[str, ...]:
    """What every event of a model says: missed parity gates, and a backend that is missed."""
    parity, missed = model.parity, model.missed
    gates = tuple(f"parity: {d}" for d in parity.degraded) if parity else ("parity",)
    return gates + ((f"fallback: {missed.backend}: {missed.reason}",) if missed else ())
