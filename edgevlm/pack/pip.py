"""The pip of this environment, run as a child."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from edgevlm.errors import PackError

_NOT_FOUND = re.compile(r"No matching distribution found for (.+)")


def run_pip(words: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> None:
    """Run ``pip WORDS``.

    Args:
        words: the arguments.
        what: what the wheels are for, as the error says it.
        environment: variables to add.

    Raises:
        PackError: it failed; names the package where one is to blame.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    # A pip that is killed leaves its folders: they lie in one that goes with us.
    with tempfile.TemporaryDirectory() as scratch:
        variables = {**os.environ, "TMPDIR": scratch, **(environment or {})}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = done.stderr
    if "No module named pip" in said:
        raise PackError(f"pack needs pip in {sys.executable}; add it with: python -m ensurepip")
    if "Retrying (Retry" in said or "Connection refused" in said:
        raise PackError(f"the package index cannot be reached, and {what} needs it: {_last(said)}")
    if lost := _NOT_FOUND.search(said):
        raise PackError(
            f"there is no wheel of {lost[1]} for {what}; "
            "another --python may have one: JetPack 6 has 3.10, JetPack 7 has 3.12"
        )
    raise PackError(f"pip cannot fetch the wheels for {what}: {_last(said)}")


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("ERROR:")] or text.splitlines()
    return lines[-1] if lines else "it said nothing"
