"""The models of streams, opened as their settings say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgevlm.config import EngineSection, LimitsSection
from edgevlm.runtime.model.lanes import load_lanes
from edgevlm.runtime.model.load import load
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.failover import Failover
from edgevlm.runtime.stream.isolation.process import ModelProcess
from edgevlm.runtime.stream.isolation.proxy import Isolated
from edgevlm.runtime.stream.knowing import KnowingModel
from edgevlm.runtime.stream.model import Kept, Model
from edgevlm.runtime.stream.tasks import TaskModel
from edgevlm.tasks import TaskSection


def open_model(
    bundle: str,
    engine: EngineSection,
    limits: LimitsSection,
    spin: bool,
    stopped: Callable[[], bool],
    task: TaskSection | None = None,
    known: Sequence[str] = (),
) -> tuple[Model, Kept | None]:
    """The model, in this process or in one of its own, and what looks after it; close either.

    With a task it meets every picture with that; known things are told to it with every question.

    Raises:
        EdgeVLMError: as ``edgevlm.load``.
    """

    def on(settings: EngineSection) -> Model:
        if settings.isolate:
            return Isolated(ModelProcess(bundle, settings, limits, spin, stopped=stopped))
        loaded = load(
            bundle,
            backend=settings.backend,
            threads=settings.threads,
            spin=spin,
            verify=settings.verify,
            cpu_fallback=settings.cpu_fallback,
            trust_engines=settings.trust_engines,
            fallback=settings.fallback,
            visual_tokens=settings.visual_tokens,
        )
        if task is not None:
            return TaskModel(loaded, task)
        return KnowingModel(loaded, known) if known else loaded

    model = on(engine)
    if model.missed is not None:
        alone = engine.model_copy(update={"fallback": None})
        return model, Failover(model, model.missed, lambda: on(alone), SYSTEM)
    return model, model if isinstance(model, Kept) else None


def open_lanes(
    count: int,
    bundle: str,
    engine: EngineSection,
    limits: LimitsSection,
    spin: bool,
    stopped: Callable[[], bool],
) -> Sequence[Model]:
    """``count`` models over weights loaded once; all to be closed.

    Raises:
        EdgeVLMError: as ``edgevlm.load``.
    """
    if engine.isolate:
        process = ModelProcess(bundle, engine, limits, spin, count, stopped=stopped)
        return [Isolated(process, lane) for lane in range(count)]
    return load_lanes(
        count,
        bundle,
        backend=engine.backend,
        threads=engine.threads,
        spin=spin,
        verify=engine.verify,
        cpu_fallback=engine.cpu_fallback,
        trust_engines=engine.trust_engines,
        visual_tokens=engine.visual_tokens,
    )
