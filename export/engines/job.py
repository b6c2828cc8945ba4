"""What a compiler's process is asked and what it answers: JSON between two processes."""

from __future__ import annotations

from pydantic import Field

from edgevlm.bundle.engines import Library, Platform, Profile
from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.images import Strict

MIB = 1 << 20


class Device(Strict):
    """The device that a compiler works for; without a name, one that is not here."""

    sm: str
    name: str | None = None
    cuda: str | None = None


class Survey(Strict):
    """Who would compile, and for what.

    Args:
        module: Python module with the library's API.
        device: what to compile for; None for the first device of this machine.
    """

    library: Library
    module: str
    device: Device | None = None


class CompileJob(Survey):
    """One graph to compile.

    Args:
        graph: ONNX file, its weights beside it.
        engine: file to write.
        profiles: ranges of every input with a free dimension.
        aliases: output -> input that it must share its buffer with.
        workspace_mib: scratch memory a kernel may ask for.
        level: the builder's optimisation level, 0 to 5.
        timing_cache: folder of kernel timings from earlier builds; None for a compiler without.
    """

    name: str
    graph: str
    engine: str
    profiles: tuple[Profile, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    workspace_mib: int = Field(ge=1)
    level: int = Field(ge=0, le=5)
    timing_cache: str | None = None


class Compiled(Strict):
    """What came of it.

    Args:
        platform: what the engine is bound to.
        inputs: of the network, free dimensions called after their axis.
        outputs: likewise.
        seconds: from reading the graph to the written engine.
        peak_mib: largest resident set of the compiler's process.
    """

    platform: Platform
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    seconds: float
    peak_mib: int


class Failure(Strict):
    """Why nothing came of it: the name of an error in ``edgevlm.errors``, and its message."""

    error: str
    message: str


class Message(Strict):
    """One line of a compiler's process: how far it is, or how it ended."""

    doing: str | None = None
    platform: Platform | None = None
    compiled: Compiled | None = None
    failure: Failure | None = None
