"""Labels of a command line: given one by one, or a file with one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer

from edgevlm.errors import ConfigError

Label = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer on 3.10
    typer.Option("--label", help="one label; again for each"),
]
LabelsFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--labels", metavar="FILE", help="labels, one a line"),
]
Template = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="holds {}, where a label is put; the bundle's own unless given"),
]


def labels(given: Sequence[str], file: Path | None) -> list[str]:
    """Labels in their order.

    Raises:
        ConfigError: none, in both places, or a file that cannot be read.
    """
    if bool(given) == (file is not None):
        raise ConfigError("labels come from --label, once for each, or from --labels FILE")
    if file is None:
        return list(given)
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"--labels {file} cannot be read as text: {exc}") from exc
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise ConfigError(f"--labels {file} holds no label: one a line")
    return found
