"""Write ``docs/models.md``: every family's certificate, and what published checkpoints cost.

``python -m docs.make_models`` exports a tiny random checkpoint of every family in every precision
(a quarter of an hour), and ``nano`` with its real weights. ``--published`` writes the second half
anew and keeps the first. Needs what the tests need (``make test`` installs it).
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from docs.measured import CHAT, ENCODER, TEXT, Row, exports, measure
from docs.published import table

PAGE = Path(__file__).parent / "models.md"
MARK = "## Published checkpoints"
HEAD = f"""# Models

Written by `python -m docs.make_models`. What is refused is in the README. What a checkpoint of your
own measures is printed by `edgevlm export`, is in the bundle's `parity.json`, and `edgevlm verify`
measures it again.

- [Certificates](#certificates): every family in every precision, tiny checkpoints.
- [{MARK[3:]}](#published-checkpoints): visual rows of a frame, estimated sizes.

## Certificates

These are **random weights in tiny shapes**, saved from the configuration classes of transformers
(open_clip's layout for `mobileclip`), exported and certified as any checkpoint is. What the figures
prove is the lowering: in fp32 every graph gives what the source model gives. They say nothing about
a published model's accuracy in a smaller precision: random layers have no structure that rounding
could spare, so a gate that is missed here may be kept by trained weights, and the other way round.

- *cosine*: the smallest of the stages that have a gate: outputs of vision and text encoders,
  connectors and heads. Text models have none.
- *logits*: largest error on the probe. *KL*: from the reference's next-token distribution, in nats.
- *greedy*: steps of 32 whose best token is the reference's; it gates only where the reference's gap
  is over ten times the logit error.
- *bytes*: of everything that graphs and tables hold, for each number in the fp32 graphs. Tiny
  models have much that stays in float32 and is small in real ones: norms, biases, rotary and
  position tables, convolutions, matrices whose width 32 does not divide.
- *gates*: those of `edgevlm/parity.py`. *Repaired*: they were missed at first, and the layers that
  drift most are kept in a higher precision, for which the graph may grow by a quarter
  (`--repair-budget`).

Encoders have no 4 bits: `--precision int4` gives them 8. fp16 is `emulated` here, on the CPU:
weights rounded to half precision, computed in float32.
"""
COLUMNS = ("family", "precision", "cosine", "logits", "KL", "greedy", "bytes", "gates")
NANO = "### nano\n\nThe built-in model with its real weights.\n"
PUBLISHED = f"""{MARK}

Rows that one frame becomes in the prompt, computed by the runtime's own picture code
(`edgevlm.runtime.model.pictures`) at the settings of the published processors, which are written
down in `docs/published.py`; text markers around tiles are not counted. For encoders, the rows of
`features`. Sizes are **estimates**: parameters times the bytes that `export/preflight.py` reckons
for each. `python -m docs.make_models --published` writes this table.

"""
CLOSING = """
A picture's rows are its price: they are prefilled for every new frame. `--image-size` makes fewer
of them where a family has the knob (`edgevlm export --help`).
"""


def measured(console: Console) -> str:
    """The first half of the page, after a quarter of an hour."""
    groups = {"Chat": list(CHAT), "Text": list(TEXT), "Encoders": list(ENCODER), "nano": ["nano"]}
    chosen = [name for names in groups.values() for name in names]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rows: dict[str, list[Row]] = {}
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        todo = exports(chosen)
        task = progress.add_task("", total=len(todo))
        for family, precision in todo:
            progress.update(task, description=f"{family} {precision}")
            with tempfile.TemporaryDirectory(prefix="edgevlm-models-") as folder:
                rows.setdefault(family, []).append(measure(Path(folder), family, precision))
            progress.advance(task)
    parts = [HEAD]
    for group, names in groups.items():
        parts.append(NANO if group == "nano" else f"### {group}\n")
        parts.append(markdown([COLUMNS, *(c for name in names for c in cells(rows[name]))]))
    return "\n".join(parts)


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """One family's rows, as they are shown."""
    full = rows[0].stored / 4  # the first is fp32
    return [
        (
            row.family,
            row.precision,
            _number(row.cosine, ".7f"),
            _number(row.logits, ".2g"),
            _number(row.kl_nats, ".2g"),
            row.greedy or "-",
            f"{row.stored / full:.2f}" if row.stored and full else "-",
            row.gates,
        )
        for row in rows
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its header."""
    head, *rest = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *rest]) + "\n"


def published() -> str:
    """The second half of the page."""
    return PUBLISHED + markdown(table()) + CLOSING


def main(arguments: list[str]) -> int:
    """Write the page; return the exit code."""
    console = Console(stderr=True)
    if "--published" in arguments:
        first = PAGE.read_text("utf-8").partition(MARK)[0]
    else:
        warnings.simplefilter("ignore")  # of libraries that save random checkpoints
        logging.disable(logging.WARNING)
        with tempfile.TemporaryDirectory() as cache:
            os.environ["EDGEVLM_CACHE"] = cache
            first = measured(console) + "\n"
    PAGE.write_text(first + published(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
