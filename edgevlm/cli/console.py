"""What people see: progress and tables on stderr, JSON on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Report = Callable[[int, int, str], None]


PLAIN_WIDTH = 160


class _Messages(Console):
    """Nobody reading the messages is no reason to stop the work."""

    def on_broken_pipe(self) -> None:
        """Say no more."""
        self.quiet = True


def to_stderr() -> Console:
    """A console on stderr, plain where stderr is no terminal."""
    width = None if sys.stderr.isatty() else PLAIN_WIDTH
    return _Messages(stderr=True, highlight=False, soft_wrap=True, width=width)


def to_stdout() -> Console:
    """A console on stdout, for results that are tables."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(highlight=False, soft_wrap=True, width=width)


def write_json(value: Any) -> None:
    """One JSON value on one line of stdout, flushed."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """A bar on a terminal, one line a step elsewhere; gives the function that reports a step."""
    console = to_stderr()
    if not console.is_terminal:

        def line(done: int, total: int, what: str) -> None:
            console.print(f"{title}: {done}/{total} {what}")

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, what="")

        def step(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, what=what)

        yield step


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """A plain table; numbers are as they come, and a cell's ``[cuda]`` is no markup."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*map(escape, row))
    return made
