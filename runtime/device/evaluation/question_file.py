"""Questions with their answers, as a user writes them down: one JSON object a line.

::

    {"picture": "dock/17.jpg", "question": "Is the door open?", "answers": ["yes"], "kind": "door"}

``picture`` is a file, from the folder that the questions lie in; ``answers`` are all that are
accepted, what one would rather hear first (``matching`` says what an answer may look like);
``kind`` is what scores are kept by, and ``question`` where it is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edgevlm.errors import ConfigError
from edgevlm.known_keys import known_keys
from edgevlm.runtime.device.evaluation.example import Example

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    picture: _Text
    question: _Text
    answers: Annotated[list[_Text], Field(min_length=1)]
    kind: _Text = "question"


def read_questions(file: Path) -> list[Example]:
    """The questions of a file, in its order.

    Args:
        file: UTF-8; empty lines are passed over.

    Raises:
        ConfigError: a file that cannot be read or holds no question, a line that is none, or a
            picture that is not there; with the number of the line.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"--eval {file} cannot be read as text: {exc}") from exc
    found = [_question(file, n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigError(f"--eval {file} holds no question: one JSON object a line")
    return found


def _question(file: Path, number: int, text: str) -> Example:
    try:
        line = _Line.model_validate_json(text)
    except ValidationError as exc:
        raise ConfigError(f"{file}:{number}: {_told(exc)}") from exc
    picture = file.parent / line.picture
    if not picture.is_file():
        raise ConfigError(f"{file}:{number}: there is no picture {picture}")
    return Example(
        picture=picture, question=line.question, answers=tuple(line.answers), kind=line.kind
    )


def _told(exc: ValidationError) -> str:
    first = exc.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}: known are {', '.join(known_keys(_Line, first['loc']))}"
    return f"{place}: {first['msg']}" if place else first["msg"]
