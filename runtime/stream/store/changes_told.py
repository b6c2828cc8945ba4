"""What changed, in a sentence: from a template, or by a model that is given the facts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from edgevlm.answer import Answer
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.store.facts import StreamChanges, in_words
from edgevlm.runtime.stream.store.query import find

QUESTION = "In one sentence: what changed?"
MOST_LISTED = 5


def sentence(found: StreamChanges) -> str:
    """The facts of one stream, in words that leave nothing out but the middle of a long list."""
    parts = [_answers(found)]
    for state in found.states:
        when = "was on from the beginning" if state.began is None else f"began at {state.began}"
        end = "is still on" if state.ended is None else f"ended at {state.ended}"
        parts.append(f"{state.rule} {when} and {end}")
    parts += [f"{count} times {code}" for code, count in found.faults.items()]
    told = "; ".join(parts)
    doubts = f" But {'; '.join(found.doubts)}." if found.doubts else ""
    return f"{found.stream}: {told}.{doubts}"


def _answers(found: StreamChanges) -> str:
    if found.last is None:
        return "no answer is kept"
    if not found.answers:
        return f"no new answer; the last one, of {found.last.at}, says {_said(found.last.says)}"
    several = len(found.questions) > 1
    if not found.different and several:
        asked = len(found.questions)
        return f"nothing changed in {found.answers} new answers to {asked} questions"
    if not found.different:
        return f"nothing changed, {found.answers} new answers all say {_said(found.last.says)}"
    listed = [
        (f"{c.after.question} " if several else "")
        + f"{_said(c.before.says)} became {_said(c.after.says)} at {c.after.at}"
        for c in found.changes[:MOST_LISTED]
    ]
    more = found.different - len(listed)
    if more > 0:
        listed.append(f"{more} further changes, the last answer says {_said(found.last.says)}")
    return "; ".join(listed)


def _said(says: Any) -> str:
    return in_words(says) if isinstance(says, dict) else f'"{says}"'


def by_model(
    model: Vlm, path: Path, found: StreamChanges, question: str, max_tokens: int
) -> Answer:
    """A model's sentence, from the facts and the first and the last picture that the store holds.

    Args:
        model: answers.
        path: the event store.
        found: the facts.
        question: what is asked behind them.
        max_tokens: of the answer.

    Raises:
        ContractError, ContextOverflow, BackendError: as ``Vlm.ask``.
        SinkError: no readable store.
    """
    from PIL import Image

    ends = [found.before or (found.changes[0].before if found.changes else None), found.last]
    wanted = {end.id: end.at for end in ends if end is not None and end.pictured}
    content: list[dict[str, Any]] = []
    if wanted and model.bundle.manifest.image is not None:
        for event in find(path, streams=[found.stream], kinds=["answer"], thumbnails=True):
            if event.id in wanted and event.thumbnail is not None:
                content.append({"type": "text", "text": f"{wanted[event.id]}: "})
                picture = Image.open(io.BytesIO(event.thumbnail))
                content.append({"type": "image", "image": picture})
    content.append({"type": "text", "text": f"\n{sentence(found)}\n{question}"})
    return model.ask(messages=[{"role": "user", "content": content}], max_tokens=max_tokens)
