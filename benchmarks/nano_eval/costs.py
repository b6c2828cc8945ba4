"""What an answer costs on this machine, and what the bundle takes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from edgevlm.errors import BackendError
from edgevlm.frame import UInt8
from edgevlm.runtime.device.memory import watch
from edgevlm.runtime.model.vlm import Vlm

QUESTION = "Is there a cat in the picture?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Medians over pictures that all differ, and sizes in MB of 10^6 bytes.

    Args:
        encode_ms: one pass of the vision encoder.
        answer_ms: from the picture to the end of an answer by yes or no.
        visual_tokens: of a picture.
        bundle_mb: all files of the bundle but engines.
        rss_mb: the most that ``edgevlm ask`` is resident with, files included.
        anonymous_mb: the part of it that no file backs.
    """

    encode_ms: float
    answer_ms: float
    visual_tokens: int
    bundle_mb: float
    rss_mb: float
    anonymous_mb: float


def costs(model: Vlm, pictures: Sequence[UInt8], threads: int) -> Costs:
    """Ask every picture once, one after another, and once more in a process of its own.

    Raises:
        BackendError: that process failed.
    """
    model.ask(pictures[0], QUESTION, max_tokens=4)
    answers = [model.ask(picture, QUESTION, max_tokens=4) for picture in pictures]
    root = model.bundle.root
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        Image.fromarray(pictures[0]).save(file)
        command = [sys.executable, "-m", "edgevlm", "ask", str(root), str(file), QUESTION]
        peak = watch([*command, "--max-tokens", "4", "--threads", str(threads)])
    if peak.exit_code:
        raise BackendError(f"edgevlm ask failed with exit code {peak.exit_code}")
    return Costs(
        encode_ms=round(median(a.timings_ms.encode for a in answers), 1),
        answer_ms=round(median(a.timings_ms.total for a in answers), 1),
        visual_tokens=answers[0].tokens.visual,
        bundle_mb=round(_size(root) / 1e6, 1),
        rss_mb=peak.rss_mb,
        anonymous_mb=peak.anonymous_mb,
    )


def _size(root: Path) -> int:
    files = (p for p in root.rglob("*") if p.is_file() and "engines" not in p.parts)
    return sum(p.stat().st_size for p in files)
