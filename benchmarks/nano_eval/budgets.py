"""How much is still seen with fewer visual tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.nano_eval.posed import chosen
from benchmarks.nano_eval.questions import MAX_TOKENS, Report
from benchmarks.nano_eval.sets import asked, compositions, held_out
from edgevlm.errors import ConfigError
from edgevlm.runtime.device.evaluation.asking import answered
from edgevlm.runtime.device.evaluation.example import Example
from edgevlm.runtime.device.evaluation.scores import scores
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.model.load import load

KINDS = ("presence", "name")
FAMILY = 22  # of picture numbers


def questions(count: int) -> list[Example]:
    """Held-out compositions, asked what is there and what it is called: so many of each."""
    names = sorted({stamp.name for stamp in held_out(known=True)})
    drawn = asked(compositions(known=True).scene, FAMILY, names)
    return [one.example for one in chosen(drawn, count, KINDS)]


def by_budget(
    bundle: Path, counts: Sequence[int], count: int, threads: int, report: Report
) -> Mapping[int, Mapping[str, Share]]:
    """Right answers to the same questions with every number of visual tokens.

    Args:
        bundle: its folder or ``.evlm`` file.
        counts: budgets that it has.
        count: questions of every kind.
        threads: of the engine.
        report: called as the work goes on.

    Returns:
        shares of right answers by budget and kind of question.

    Raises:
        ConfigError: no budget at all.
    """
    if not counts:
        raise ConfigError(f"{bundle} has one number of visual tokens: there is nothing to compare")
    examples, found = questions(count), {}
    for tokens in counts:
        with load(bundle, threads=threads, visual_tokens=tokens) as model:
            answers = answered(model, examples, max_tokens=MAX_TOKENS, report=report)
        found[tokens] = {score.kind: score.right for score in scores(answers)}
    return found
