"""The planner against every published figure that applies.

``python -m benchmarks.plan_error`` prints each prediction beside the published figure, its error,
and the medians: of all, of the rows that the efficiencies were fitted on, and of those held out.
``--fit`` fits again and prints what would stand in ``engines.toml``. ``--markdown`` prints the
table of docs/plan.md.
"""

from __future__ import annotations

import argparse
import math
import sys

from edgevlm.runtime.device.plan.engines import Engine, engine
from edgevlm.runtime.device.plan.published import (
    Error,
    errors,
    groups,
    median_percent,
    not_compared,
    sources,
)

BOUNDS = {
    "matmul": (0.3, 1.0),
    "half_rows": (0.0, 400.0),
    "bandwidth": (0.4, 1.0),
    "process_mb": (200.0, 4000.0),
}
ROUNDS, STEPS = 12, 41
HEAD = ("model", "device", "precision", "engine", "figure", "published", "predicted", "error", "")


def fitted() -> Engine:
    """Efficiencies with the least squared logarithm of predicted over published, on the fit rows.

    One coordinate after the other, over ever smaller ranges.
    """
    own = engine("trt")
    spans = {name: high - low for name, (low, high) in BOUNDS.items()}
    for _ in range(ROUNDS):
        for name, (low, high) in BOUNDS.items():
            centre, span = float(getattr(own, name)), spans[name]
            tried = {
                min(max(centre + span * (n / (STEPS - 1) - 0.5) * 2, low), high)
                for n in range(STEPS)
            }
            own = min((own.model_copy(update={name: v}) for v in sorted(tried)), key=_loss)
            spans[name] *= 0.6
    return own


def _loss(own: Engine) -> float:
    chosen = [e for e in errors(own) if e.row.fit]
    return sum(math.log(e.predicted / e.published) ** 2 for e in chosen)


def cells(one: Error) -> tuple[str, ...]:
    """One row of the table."""
    row = one.row
    kind = "fitted" if row.fit else ""
    return (
        row.model, row.device, row.precision + (f" ({row.speedup})" if row.speedup else ""),
        row.engine, one.metric, f"{one.published:g}", f"{one.predicted:.4g}",
        f"{100 * one.error:+.0f} %", "; ".join(filter(None, (kind, row.note))),
    )  # fmt: skip


def main() -> None:
    """Print the table and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args()
    own = fitted() if chosen.fit else engine("trt")
    if chosen.fit:
        for name in BOUNDS:
            sys.stdout.write(f"{name} = {getattr(own, name):.4g}\n")
    found = errors(own)
    table = [HEAD, *map(cells, found)]
    if chosen.markdown:
        lines = [f"| {' | '.join(row)} |" for row in table]
        lines.insert(1, "|" + "---|" * len(HEAD))
    else:
        widths = [max(len(row[n]) for row in table) for n in range(len(HEAD))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
    sys.stdout.write("\n".join(line.rstrip() for line in lines) + "\n\n")
    for name, members in groups(found).items():
        line = f"{name}: median error {median_percent(members):.0f} % of {len(members)} figures\n"
        sys.stdout.write(line)
    sys.stdout.write("\nNot compared:\n")
    sys.stdout.writelines(f"- {what}: {why}\n" for what, why in not_compared().items())
    sys.stdout.write("\nSources:\n")
    sys.stdout.writelines(f"- {key}: {text}\n" for key, text in sources().items())


if __name__ == "__main__":
    main()
