"""What every event says while a model is not as it should be."""

from __future__ import annotations

from collections.abc import Sequence

from edgevlm.runtime.stream.model import Model


def degraded_by(model: Model, shed: Sequence[str] = ()) -> tuple[str, ...]:
    """What every event of a model says: missed parity gates, a missed backend, what was shed."""
    parity, missed = model.parity, model.missed
    gates = tuple(f"parity: {d}" for d in parity.degraded) if parity else ("parity",)
    gates += tuple(f"memory: {one}" for one in shed)
    return gates + ((f"fallback: {missed.backend}: {missed.reason}",) if missed else ())
