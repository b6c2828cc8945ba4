"""Asks a bundle every set of questions, and scores what it says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from benchmarks.nano_eval.posed import Posed
from benchmarks.nano_eval.spoken import Boxed, Described, boxed, described
from edgevlm.export.nano_data.english import plural
from edgevlm.export.nano_data.names import known_kinds
from edgevlm.export.nano_data.questions import KINDS
from edgevlm.runtime.device.evaluation.asking import answered, answered_blind
from edgevlm.runtime.device.evaluation.example import Answered, Example
from edgevlm.runtime.device.evaluation.scores import Score, judged, scores
from edgevlm.runtime.model.vlm import Vlm

MAX_TOKENS = 64
APART = ("describe", "json")  # no single answer is right
STRICT = "name, no wider word"
Report = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """What a bundle says to one set.

    Args:
        name: of the set.
        seen: what of it training has seen.
        scores: by kind of question.
        answers: all of them.
        described: its sentences; None where none are asked for.
        boxed: its boxes, likewise.
        missed: questions that were answered wrongly, with what was said.
    """

    name: str
    seen: str
    scores: list[Score]
    answers: list[Answered]
    described: Described | None = None
    boxed: Boxed | None = None
    missed: list[tuple[Posed, str]]


def ask_posed(
    model: Vlm,
    name: str,
    seen: str,
    questions: Sequence[Posed],
    vocabulary: Collection[str],
    report: Report,
) -> SetScores:
    """Ask one set.

    Args:
        model: a bundle with vision and language.
        name: of the set.
        seen: what of it training has seen.
        questions: of the set.
        vocabulary: names that descriptions may invent.
        report: called now and then.
    """
    found = answered(
        model, [one.example for one in questions], max_tokens=MAX_TOKENS, report=report
    )
    both = list(zip(questions, found, strict=True))
    said = {kind: [(one, a.text) for one, a in both if one.question.kind == kind] for kind in APART}
    plain = [(one, a) for one, a in both if one.question.kind not in APART]
    answers = [a for _, a in plain]
    blind = answered_blind(model, [a.example for a in answers], max_tokens=MAX_TOKENS)
    kinds = scores(answers, blind)
    names = [n for n, (one, _) in enumerate(plain) if one.question.kind == "name"]
    if names:
        strictly = [_strict(plain[n][0]) for n in names]
        kinds += scores(
            [replace(answers[n], example=e) for n, e in zip(names, strictly, strict=True)],
            [replace(blind[n], example=e) for n, e in zip(names, strictly, strict=True)],
        )
    return SetScores(
        name=name,
        seen=seen,
        scores=sorted(kinds, key=_place),
        answers=answers,
        described=described(said["describe"], vocabulary) if said["describe"] else None,
        boxed=boxed(said["json"]) if said["json"] else None,
        missed=[
            (one, a.text)
            for (one, a), right in zip(plain, judged(answers), strict=True)
            if not right
        ],
    )


def ask_examples(
    model: Vlm, name: str, seen: str, examples: Sequence[Example], report: Report
) -> SetScores:
    """The same for questions about pictures of which nothing else is known."""
    answers = answered(model, examples, max_tokens=MAX_TOKENS, report=report)
    blind = answered_blind(model, examples, max_tokens=MAX_TOKENS)
    return SetScores(
        name=name, seen=seen, scores=scores(answers, blind), answers=answers, missed=[]
    )


def _place(score: Score) -> tuple[int, str]:
    """Kinds of questions in the order of their list, whatever is said behind a comma."""
    return [str(kind) for kind in KINDS].index(score.kind.partition(",")[0]), score.kind


def _strict(one: Posed) -> Example:
    """The same, where an apple is no "fruit": its name, its head noun, synonyms of both."""
    right = one.question.answer
    for thing in one.picture.things:
        if right in (thing.name, plural(thing.name)):
            close = sorted(known_kinds([thing.name]))
            answers = right, *close, *map(plural, close)
            return replace(one.example, answers=tuple(dict.fromkeys(answers)), kind=STRICT)
    return replace(one.example, answers=(right,), kind=STRICT)
