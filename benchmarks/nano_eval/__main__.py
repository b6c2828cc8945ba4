"""``python -m benchmarks.nano_eval bundles/nano``: every score of nano's model card.

Prints the tables of ``docs/nano.md`` and writes them, all answers and figures as JSON, plots and a
sheet of wrong answers to ``--out``. ``--only`` takes parts of it, ``--count`` fewer questions.
The sheet shows pictures that are drawn or rendered by this repository, never the stamps.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.nano_eval.found import plain
from benchmarks.nano_eval.markdown import pages
from benchmarks.nano_eval.measured import PARTS, measured
from benchmarks.nano_eval.plots import plot_budgets, plot_reliability
from benchmarks.nano_eval.sheet import draw_misses


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/nano"))
    parser.add_argument("--count", type=int, default=60, help="questions of every kind")
    parser.add_argument("--only", choices=PARTS, action="append", help="again for each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/nano-eval"))
    parser.add_argument("--failures", type=Path, help="the sheet, elsewhere than in --out")
    chosen = parser.parse_args()
    if chosen.count < 2:
        parser.error("--count takes 2 or more")

    def report(done: int, total: int, what: str) -> None:
        if done == total:
            sys.stderr.write(f"eval: {done} {what}\n")

    found, missed = measured(chosen.bundle, chosen.count, chosen.threads, chosen.only, report)
    text = "\n\n".join(pages(found)) + "\n"
    sys.stdout.write(text)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "eval.md").write_text(text, "utf-8")
    (chosen.out / "eval.json").write_text(json.dumps(plain(found), indent=1) + "\n", "utf-8")
    draw_misses(missed, chosen.failures or chosen.out / "failures.jpg")
    if found.budgets:
        plot_budgets(found.budgets, chosen.out / "budgets.png")
    curves = {"answers": found.answers_bins}
    curves |= {"classify": found.heads.classified_bins} if found.heads else {}
    if curves := {name: bins for name, bins in curves.items() if bins}:
        plot_reliability(curves, chosen.out / "reliability.png")


if __name__ == "__main__":
    main()
