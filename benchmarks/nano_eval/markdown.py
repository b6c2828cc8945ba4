"""The scores as the tables of ``docs/nano.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.anomaly import Told
from benchmarks.locate import Looked
from benchmarks.nano_eval.costs import Costs
from benchmarks.nano_eval.found import Found, Heads
from benchmarks.nano_eval.heads import Mean, mean
from benchmarks.nano_eval.questions import SetScores
from edgevlm.runtime.device.evaluation.calibration import calibration_error
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.device.evaluation.summary import COLUMNS, rows

WHOLE = 49  # visual tokens that the others are held against


def pages(found: Found) -> Iterator[str]:
    """The report, a piece at a time, in the order of what was measured."""
    yield (
        f"Bundle `{found.bundle_id[:12]}`, {found.precision}, {found.machine}; "
        f"{found.count} questions of a kind asked for; 95 % intervals in brackets."
    )
    for one in found.sets:
        yield from _set(one)
    if found.answers_bins:
        error = calibration_error(found.answers_bins)
        yield f"Expected calibration error of answers to compositions: {error:.3f}."
    if found.budgets:
        yield _budgets(found.budgets)
    if found.heads:
        yield _heads(found.heads)
    if found.anomalies:
        yield _anomalies(found.anomalies)
    if found.located:
        yield _located(found.located)
    if found.costs:
        yield _costs(found.costs)
    yield f"All of it took {found.seconds:.0f} s."


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    head = [columns, ["---"] * len(columns)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *lines])


def _set(one: SetScores) -> Iterator[str]:
    yield f"**{one.name}** (training has seen: {one.seen})"
    columns = [*COLUMNS[:6], "yes", "no", "said yes to no", "refused"]
    lines = [
        [*row[:8], _percent(score.false_yes), row[8]]
        for row, score in zip(rows(one.scores), one.scores, strict=True)
    ]
    yield table(columns, lines)
    if one.described:
        told = one.described
        yield (
            f"Descriptions name {told.named.percent()} % of the things; {told.invented.percent()} "
            "% of them name something that is not there."
        )
    if one.boxed:
        told_boxes = one.boxed
        yield (
            f"Boxes in JSON: {told_boxes.valid.percent()} % valid, {told_boxes.named.percent()} % "
            f"with the right name, overlap {_mean(mean(told_boxes.overlaps))}, "
            f"{told_boxes.found.percent()} % overlap by a half or more."
        )


def _budgets(budgets: Mapping[int, Mapping[str, Share]]) -> str:
    kinds = list(next(iter(budgets.values())))
    whole = budgets.get(WHOLE)
    columns = ["visual tokens", *(f"{kind}, %" for kind in kinds)]
    columns += [f"{kind}, of {WHOLE} tokens" for kind in kinds] if whole else []
    lines = []
    for count, by_kind in budgets.items():
        line = [str(count), *(by_kind[kind].percent() for kind in kinds)]
        if whole:
            line += [_ratio(by_kind[kind], whole[kind]) for kind in kinds]
        lines.append(line)
    return table(columns, lines)


def _ratio(share: Share, whole: Share) -> str:
    return "-" if not share.value or not whole.value else f"{100 * share.value / whole.value:.0f} %"


def _heads(heads: Heads) -> str:
    lines = []
    if heads.segmented:
        lines += [
            ["labels of pixels, mIoU, background among them", _mean(heads.segmented.everything)],
            ["the same, things alone", _mean(heads.segmented.things)],
            ["the same, ten labels more that are not there", _mean(heads.segmented.crowded)],
        ]
    if heads.by_point and heads.by_box:
        lines += [
            ["mask of a point in a thing, IoU", _mean(heads.by_point)],
            ["mask of its box, IoU", _mean(heads.by_box)],
        ]
    if heads.classified:
        error = calibration_error(heads.classified_bins)
        lines += [
            [f"name of one thing among {heads.labels} labels, %", heads.classified.percent()],
            ["expected calibration error of that", f"{error:.3f}"],
        ]
    if heads.classes:
        lines.append(["ImageNet class as by the published weights, %", heads.classes.percent()])
    lines += [[f"`{ability}`", "not in this bundle"] for ability in heads.lacks]
    return table(["from the encoder alone", ""], lines)


def _anomalies(anomalies: Sequence[Told]) -> str:
    columns = ["defects", "AUROC of pictures", "AUROC of patches", "false alarms", "found"]
    return table(
        columns,
        [
            [
                a.name, f"{a.area:.3f} [{a.ends[0]:.3f}, {a.ends[1]:.3f}]", f"{a.patches:.3f}",
                f"{100 * a.alarms:.1f} %", f"{100 * a.found:.1f} %",
            ]
            for a in anomalies
        ],
    )  # fmt: skip


def _located(told: Looked) -> str:
    lines = [
        ["average precision at an overlap of 0.5", f"{told.precision:.3f}"],
        ["found, %", told.found.percent()],
        ["scenes without it in which something was found, %", told.false.percent()],
        ["a scene, ms", f"{told.each_ms:.0f}"],
    ]
    return table(["things shown three times, found again", ""], lines)


def _costs(costs: Costs) -> str:
    lines = [
        ["encoding a picture, ms p50", f"{costs.encode_ms:.1f}"],
        [f"answer by yes or no, {costs.visual_tokens} tokens a picture, ms p50",
         f"{costs.answer_ms:.1f}"],
        ["bundle, MB", f"{costs.bundle_mb:.1f}"],
        ["resident memory of `edgevlm ask`, MB (anonymous)",
         f"{costs.rss_mb:.0f} ({costs.anonymous_mb:.0f})"],
    ]  # fmt: skip
    return table(["costs", ""], lines)


def _mean(of: Mean) -> str:
    return f"{of.value:.3f} [{of.low:.3f}, {of.high:.3f}]"


def _percent(share: Share) -> str:
    return "-" if share.value is None else f"{100 * share.value:.1f}"
