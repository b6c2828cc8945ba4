"""Which setting meets a target: precision x visual tokens x resolution x context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgevlm.cost import CostSheet, PictureSetting
from edgevlm.errors import ConfigError
from edgevlm.runtime.device.plan.devices import Device
from edgevlm.runtime.device.plan.predict import Ask, Prediction, precisions, predict
from edgevlm.runtime.device.plan.scaling import blended_error

CONTEXTS = (512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is wanted.

    Args:
        fps: answers a second; None for any.
        memory_mb: while running; None for what the device has.
        reading: share of tasks that read text, in [0, 1].
    """

    fps: float | None = None
    memory_mb: float | None = None
    reading: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One setting: what it costs, the error that the scaling law gives it, and what it misses."""

    prediction: Prediction
    tokens: int | None
    error: float
    misses: tuple[str, ...]


def search(sheet: CostSheet, device: Device, ask: Ask, target: Target) -> list[Choice]:
    """Every setting, those that meet the target first, best first.

    Best is the least error by the scaling law, then the higher precision, then more pixels, then
    the longer context: the law says nothing of these three.

    Raises:
        ConfigError: no setting takes the frame and the question at all.
    """
    found: list[Choice] = []
    refusal: ConfigError | None = None
    for precision in precisions(sheet):
        for setting in sheet.settings or (None,):
            for context in _contexts(sheet, ask):
                try:
                    made = predict(sheet, setting, precision, device, replace(ask, context=context))
                except ConfigError as exc:
                    refusal = exc
                    continue
                found.append(_choice(sheet, setting, made, device, target))
    if not found:
        raise refusal or ConfigError(f"{sheet.name} has no setting to choose from")
    return sorted(found, key=_rank)


def pareto(choices: Iterable[Choice]) -> list[Choice]:
    """Those that no other beats in error, time and memory at once, the fastest first.

    Of equals the first stays.
    """
    known = list(choices)
    kept: list[Choice] = []
    for one in known:
        costs = _costs(one)
        if any(_beats(_costs(other), costs) for other in known):
            continue
        if any(_costs(other) == costs for other in kept):
            continue
        kept.append(one)
    return sorted(kept, key=lambda c: c.prediction.answer_ms)


def _contexts(sheet: CostSheet, ask: Ask) -> tuple[int | None, ...]:
    if ask.context is not None or sheet.decoder is None:
        return (ask.context,)
    limit = sheet.capacity or sheet.max_context
    return tuple(c for c in CONTEXTS if c < limit) + ((limit,) if limit <= CONTEXTS[-1] else ())


def _choice(
    sheet: CostSheet,
    setting: PictureSetting | None,
    made: Prediction,
    device: Device,
    target: Target,
) -> Choice:
    billions = (sheet.decoder or sheet.settings[0].vision).weights.count / 1e9
    misses = []
    if target.fps is not None and made.answers_per_s < target.fps:
        misses.append("fps")
    allowed = target.memory_mb or device.usable_gb * 1e3
    if made.memory.run_mb > allowed:
        misses.append("memory")
    if made.memory.build_mb > device.usable_gb * 1e3:
        misses.append("build memory")
    return Choice(
        prediction=made,
        tokens=None if setting is None else setting.tokens,
        error=blended_error(billions, made.visual_tokens, target.reading),
        misses=tuple(misses),
    )


def _rank(one: Choice) -> tuple[object, ...]:
    made = one.prediction
    order = ("fp32", "fp16", "int8", "int4").index(made.precision)
    return (len(one.misses), one.error, order, -(made.image_size or 0), -made.context)


def _costs(one: Choice) -> tuple[float, float, float]:
    return one.error, one.prediction.answer_ms, one.prediction.memory.run_mb


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
