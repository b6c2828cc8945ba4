"""Two curves of the model card: right answers over visual tokens, and over confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevlm.runtime.device.evaluation.calibration import Bin
from edgevlm.runtime.device.evaluation.share import Share


def plot_budgets(found: Mapping[int, Mapping[str, Share]], target: Path) -> None:
    """Right answers over visual tokens, with 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="visual tokens", ylabel="right, %", xscale="log")
    for kind in next(iter(found.values())):
        shares = [by_kind[kind] for by_kind in found.values()]
        middle = [100 * (share.value or 0.0) for share in shares]
        ends = [share.interval() or (0.0, 1.0) for share in shares]
        bars = [
            [m - 100 * low for m, (low, _) in zip(middle, ends, strict=True)],
            [100 * high - m for m, (_, high) in zip(middle, ends, strict=True)],
        ]
        axes.errorbar(list(found), middle, yerr=bars, fmt="o-", capsize=4, label=kind)
    axes.set_xticks(list(found), [str(n) for n in found])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(target, dpi=120)


def plot_reliability(curves: Mapping[str, Sequence[Bin]], target: Path) -> None:
    """Shares of right answers over confidence; calibrated ones lie on the diagonal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="confidence", ylabel="share right", aspect="equal")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    for name, found in curves.items():
        axes.plot(
            [b.confidence for b in found], [b.right for b in found],
            marker="o", label=f"{name} ({sum(b.count for b in found)})",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend()
    figure.savefig(target, dpi=120)
