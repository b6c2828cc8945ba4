"""The ``edgevlm`` command: verbs, exit codes, one-line errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import typer

import edgevlm
from edgevlm.cli import (
    anomaly,
    ask,
    bench,
    build,
    changes,
    classify,
    doctor,
    events,
    export,
    inspect,
    list_,
    locate,
    pack,
    plan,
    replay,
    run,
    segment,
    teach,
    verify,
)
from edgevlm.errors import ConfigError, EdgeVLMError

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="edgevlm",
    help="From a checkpoint to a verified bundle, from a frame to an answer.",
    epilog="Everywhere: --version prints the version, --debug shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("export")(export.command)
app.command("build")(build.command)
app.command("inspect")(inspect.command)
app.command("verify")(verify.command)
app.command("ask")(ask.command)
app.command("classify")(classify.command)
app.command("segment")(segment.command)
app.command("teach")(teach.command)
app.command("anomaly")(anomaly.command)
app.command("locate")(locate.command)
app.command("run")(run.command)
app.command("events")(events.command)
app.command("changes")(changes.command)
app.command("replay")(replay.command)
app.command("bench")(bench.command)
app.command("plan")(plan.command)
app.command("list")(list_.command)
app.command("pack")(pack.command)
app.command("doctor")(doctor.command)


@app.callback()
def _root() -> None:
    """Verbs only; see ``run_command`` for the flags that work everywhere."""


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    words = [a for a in arguments if a != "--debug"]
    debug = len(words) != len(arguments)
    try:
        if "--version" in words:
            sys.stdout.write(f"edgevlm {edgevlm.__version__}\n")
            code = DONE
        else:
            code = app(args=words, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("edgevlm: interrupted\n")
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as exc:
        # Typer and rich turn a closed stdout into an exit with 1.
        if not isinstance(exc, BrokenPipeError) and not isinstance(
            exc.__context__, BrokenPipeError
        ):
            raise
        _silence_stdout()
        return DONE
    except (EdgeVLMError, OSError) as exc:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"edgevlm: {' '.join(str(exc).split())}\n")
        if isinstance(exc, OSError):  # stdout on a full disk, say
            _silence_stdout()
        return USAGE if isinstance(exc, ConfigError) else FAILED
    except Exception as exc:
        if not hasattr(exc, "exit_code"):
            raise
        return _usage(exc)
    return code if isinstance(code, int) else DONE


def _usage(exc: Exception) -> int:
    """What click raises for a command line that does not parse."""
    if hasattr(exc, "show"):
        exc.show()
    return int(getattr(exc, "exit_code", USAGE))


def _silence_stdout() -> None:
    """Stdout takes nothing more: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
