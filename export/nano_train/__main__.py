"""``python -m edgevlm.export.nano_train RUN``: pictures, two lessons, weights.

``RUN`` is a folder that may hold nothing, or an interrupted run, which goes on. At its end it holds
``heads.safetensors`` and ``lora.safetensors``, which ``edgevlm export nano`` takes, the log of
every step, ``curves.png`` and, in ``check.json``, how often answers with 16 tokens are right.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgevlm.errors import EdgeVLMError
from edgevlm.export.nano_train.settings import read_settings


def main() -> int:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--config", type=Path, help="TOML: the keys of settings.py")
    parser.add_argument("--caches", type=Path, help="where pictures are kept; RUN/pictures")
    args = parser.parse_args()
    try:
        _train(args.run, args.caches or args.run / "pictures", args.config)
    except EdgeVLMError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    return 0


def _train(run: Path, caches: Path, config: Path | None) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from edgevlm.export.nano_train.cache import fill
    from edgevlm.export.nano_train.checking import Check
    from edgevlm.export.nano_train.curves import draw
    from edgevlm.export.nano_train.school import School
    from edgevlm.export.nano_train.sources import CUT_OUTS, OTHERS

    settings = read_settings(config)
    run.mkdir(parents=True, exist_ok=True)
    pictures = settings.pictures
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns) as progress:
        for kind, count in ((CUT_OUTS, pictures.cut_outs), (OTHERS, pictures.others)):
            task = progress.add_task(f"pictures: {kind}", total=count)
            for done in fill(caches / kind, kind, count, settings.seed, pictures.workers):
                progress.update(task, completed=done)
        school = School(settings, caches, run)
        for name, lesson, steps in (
            ("perceiving", school.first(), settings.first.steps),
            ("answering", school.second(), settings.second.steps),
        ):
            task = progress.add_task(name, total=steps)
            for done in lesson:
                progress.update(task, completed=done)
        task = progress.add_task("checking", total=2)
        check, found = Check(settings.checked), {}
        for name, blind in (("right", False), ("right about another picture", True)):
            found[name] = check.rates(school, 4, blind=blind)
            progress.advance(task)
    (run / "check.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(run)


if __name__ == "__main__":
    sys.exit(main())
