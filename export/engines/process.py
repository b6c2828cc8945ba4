"""Start a compiler's process, follow it, and turn its end into a value or an error."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from pydantic import ValidationError

from edgevlm import errors
from edgevlm.bundle.engines import Platform
from edgevlm.errors import BuildError
from edgevlm.export.engines.job import Compiled, CompileJob, Message, Survey
from edgevlm.export.engines.symptoms import killed

CHILD = "edgevlm.export.engines.child"


def survey(job: Survey) -> Platform:
    """What an engine that is compiled here would be bound to.

    Raises:
        BackendUnavailable: no such library or device here.
        BuildError: the process died.
    """
    found = _run("survey", job, job.library, lambda _doing: None).platform
    assert found is not None
    return found


def run_job(job: CompileJob, say: Callable[[str], None]) -> Compiled:
    """Compile one graph in a process that ends with it, whatever happens here.

    Args:
        job: what to compile.
        say: told what the compiler is doing.

    Raises:
        BackendUnavailable: no such library or device here.
        UnsupportedOperator: a node that the library refuses.
        BuildMemoryError: it ran out of memory, or was killed.
        BuildError: anything else.
    """
    found = _run("compile", job, job.name, say).compiled
    assert found is not None
    return found


def _run(verb: str, job: Survey, name: str, say: Callable[[str], None]) -> Message:
    """The last message of a child that did its job."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", CHILD, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        with process:
            try:
                last = _follow(process, job, say)
            except BaseException:
                process.kill()
                raise
        if last is not None and last.failure is not None:
            raise getattr(errors, last.failure.error)(last.failure.message)
        if last is not None and last.doing is None:
            return last
        if process.returncode == -signal.SIGKILL:
            raise killed(name)
        complaints.seek(0)
        lines = complaints.read().strip().splitlines()
    reason = lines[-1] if lines else f"exit {process.returncode}"
    raise BuildError(f"{name}: the compiler's process failed: {reason}")


def _follow(
    process: subprocess.Popen[str], job: Survey, say: Callable[[str], None]
) -> Message | None:
    """The last message of the process; what a library prints there itself is passed over."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(job.model_dump_json())
        process.stdin.close()
    except BrokenPipeError:  # it died before it read the job; its exit says why
        return None
    last = None
    for line in process.stdout:
        try:
            last = Message.model_validate_json(line)
        except ValidationError:
            continue
        if last.doing is not None:
            say(last.doing)
    return last
