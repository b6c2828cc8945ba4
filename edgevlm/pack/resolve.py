"""Which wheels a board needs, found out on another machine.

``pip install --dry-run --platform ... --python-version ...`` picks wheels for the board, but
evaluates the markers of what they depend on (``exceptiongroup; python_version < "3.11"``) for the
interpreter that pip runs in (pypa/pip issue 11664). So its answer is walked again here, with the
board's own markers: what is lacking is asked for by name in another round, and what the board does
not need is left out.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgevlm.errors import PackError
from edgevlm.pack.board import Board
from edgevlm.pack.pip import run_pip

_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """One distribution in one version.

    Args:
        name: canonical.
        version: as it is published.
        requires: its ``Requires-Dist`` lines.
        licence: as its metadata says.
        sha256: of the wheel; empty if the index does not say.
    """

    name: str
    version: str
    requires: tuple[str, ...]
    licence: str
    sha256: str = ""


def resolve(requirements: Iterable[str], board: Board) -> list[Pinned]:
    """Everything that ``requirements`` need on ``board``, in the order of names.

    Raises:
        PackError: a package has no wheel for the board, or the requirements contradict each other.
    """
    wanted = [Requirement(line) for line in requirements]
    asked = [str(r) for r in wanted if r.marker is None or r.marker.evaluate(board.environment)]
    for _ in range(_ROUNDS):
        found = _ask(_without_markers(asked), board)
        reached, lacking = walk(wanted, found, board.environment)
        if not lacking:
            return [found[name] for name in sorted(reached)]
        asked += lacking
    raise PackError(f"no set of wheels fits {board.arch}, Python {board.python}: {lacking}")


def walk(
    wanted: Iterable[Requirement], found: Mapping[str, Pinned], environment: Mapping[str, str]
) -> tuple[set[str], list[str]]:
    """What is reached from ``wanted``, and which requirements ``found`` does not meet.

    Args:
        wanted: where to start.
        found: what there is, by canonical name.
        environment: the board's markers.
    """
    todo = [(requirement, frozenset({""})) for requirement in wanted]
    seen: set[tuple[str, str]] = set()
    reached: set[str] = set()
    lacking: list[str] = []
    while todo:
        requirement, extras = todo.pop()
        marker, name = requirement.marker, canonicalize_name(requirement.name)
        if marker and not any(marker.evaluate({**environment, "extra": e}) for e in extras):
            continue
        pinned = found.get(name)
        if pinned is None or not requirement.specifier.contains(pinned.version, prereleases=True):
            lacking.append(str(requirement))
            continue
        reached.add(name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += [(Requirement(line), frozenset({extra})) for line in pinned.requires]
    return reached, lacking


def _without_markers(lines: Iterable[str]) -> list[str]:
    """Pip would evaluate them for its own interpreter."""
    bare = []
    for line in lines:
        requirement = Requirement(line)
        requirement.marker = None
        bare.append(str(requirement))
    return bare


def _ask(requirements: list[str], board: Board) -> dict[str, Pinned]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        run_pip(
            ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report),
             "--target", folder, *board.pip_options, *requirements],
            f"{board.arch}, Python {board.python}",
        )  # fmt: skip
        return {
            pinned.name: pinned
            for item in json.loads(report.read_text("utf-8"))["install"]
            for pinned in [_pinned(item)]
        }


def _pinned(item: Mapping[str, Any]) -> Pinned:
    metadata, archive = item["metadata"], item["download_info"].get("archive_info", {})
    return Pinned(
        name=canonicalize_name(metadata["name"]),
        version=metadata["version"],
        requires=tuple(metadata.get("requires_dist", ())),
        licence=_licence(metadata),
        sha256=archive.get("hashes", {}).get("sha256", ""),
    )


def _licence(metadata: Mapping[str, Any]) -> str:
    """The expression, else the classifiers, else the first line of the old free text."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get("classifier", ())
                   if c.startswith("License ::")]  # fmt: skip
    if classifiers:
        return ", ".join(classifiers)
    lines = str(metadata.get("license") or "").splitlines()
    return lines[0][:80] if lines else "not stated"
