"""A corner where torchvision and timm can be imported beside a CPU build of torch.

transformers' processors of vision-language models want torchvision. The registry's build of it is
made for CUDA and fails to import beside a CPU torch, because two operators are missing; declaring
them is enough for everything the processors do. It lives in a folder of its own, and only child
processes see it, so that the tests run as a user's machine would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import missing

FOLDER = Path(sys.prefix) / "oracles"
ROOT = Path(__file__).parent.parent


def search_path() -> str:
    """PYTHONPATH under which torchvision and timm can be imported.

    Skips the test where they are not installed.
    """
    if not (FOLDER / "torchvision").is_dir():
        missing("torchvision is not in the environment's folder `oracles` (make test installs it)")
    return os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "oracle_site", FOLDER)))


def run(module: str, *arguments: str | Path, oracles: bool = True) -> str:
    """``python -m module arguments``, with the oracles or without: its standard output.

    Raises:
        AssertionError: it failed; the message holds its stderr.
    """
    path = search_path() if oracles else str(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
