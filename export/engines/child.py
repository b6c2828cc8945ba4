"""Compile one graph: ``python -m edgevlm.export.engines.child compile``, JSON in and out.

A job comes on stdin, messages go to stdout. With ``survey`` it says what it would compile for.

A process of its own for each graph: what the compiler holds on to goes with it, and where memory is
short the system kills this process and not the one that has the bundle open.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from edgevlm.bundle.engines import Platform
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import BuildError, EdgeVLMError
from edgevlm.export.engines.job import Compiled, CompileJob, Device, Failure, Message, Survey
from edgevlm.export.engines.library import import_library
from edgevlm.export.engines.ort_context import compile_context
from edgevlm.export.engines.tensorrt_api import Network, platform_of


def _say(message: Message) -> None:
    sys.stdout.write(message.model_dump_json(exclude_none=True) + "\n")
    sys.stdout.flush()


def compile_graph(job: CompileJob) -> Compiled:
    """Do the job in this process.

    Raises:
        BackendUnavailable: no such library or device here.
        BuildError: the compiler refuses, or the engine cannot be written.
    """
    started = time.monotonic()
    library = import_library(job.library, job.module)
    device = _device(job)

    def say(what: str) -> None:
        _say(Message(doing=what))

    try:
        if job.library == "onnxruntime":
            say("building engine")
            inputs, outputs = compile_context(library, job)
        else:
            network = Network(library, job, device, say)
            inputs, outputs = network.parse()
            network.build(Path(job.engine))
    except OSError as exc:
        raise BuildError(f"{job.name}: the engine cannot be written: {exc}") from exc
    return Compiled(
        platform=platform_of(library, job, device),
        inputs=inputs,
        outputs=outputs,
        seconds=round(time.monotonic() - started, 1),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )


def survey(job: Survey) -> Platform:
    """What an engine that is compiled here would be bound to.

    Raises:
        BackendUnavailable: no such library or device here.
    """
    return platform_of(import_library(job.library, job.module), job, _device(job))


def _device(job: Survey) -> Device:
    if job.device is not None:
        return job.device
    found = cuda_device()
    return Device(sm=found.sm, name=found.name, cuda=found.cuda)


def main(arguments: list[str]) -> int:
    """Read a job, do it, and answer."""
    text = sys.stdin.read()
    try:
        if arguments == ["survey"]:
            _say(Message(platform=survey(Survey.model_validate_json(text))))
        else:
            _say(Message(compiled=compile_graph(CompileJob.model_validate_json(text))))
    except EdgeVLMError as exc:
        _say(Message(failure=Failure(error=type(exc).__name__, message=str(exc))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
