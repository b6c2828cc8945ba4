"""How an answer is to be decoded: what a caller may choose besides the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from edgevlm.errors import ContractError
from edgevlm.runtime.model.decode import Budget, never
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.sampling import SamplingOptions
from edgevlm.runtime.model.schema import read_schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Settings of one answer.

    Args:
        sampling: how tokens are chosen.
        budget: what ends the answer besides the model.
        schema: JSON Schema that it follows.
        drafts: what earlier answers teach; None drafts nothing.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    budget: Budget = field(default_factory=Budget)
    schema: Mapping[str, Any] | None = None
    drafts: Drafts | None = None


class Choice(TypedDict, total=False):
    """Keywords of ``Vlm.ask`` and ``ask_many``, for those who pass them on: how to decode."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    cancelled: Callable[[], bool]


class ChoiceOfOne(Choice, total=False):
    """Those that ``Vlm.ask`` has besides."""

    schema: Any
    draft: Drafts | bool
    deadline_ns: int | None


def asking_of(
    *,
    schema: Any = None,
    max_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    draft: Drafts | bool = True,
    deadline_ns: int | None = None,
    cancelled: Callable[[], bool] = never,
) -> Asking:
    """What keywords of ``Vlm.ask`` mean.

    Raises:
        ContractError: a value out of its range or of another type.
        SchemaError: a schema that cannot be read.
    """
    try:
        return Asking(
            sampling=SamplingOptions(temperature=temperature, top_p=top_p, seed=seed),
            budget=Budget(max_tokens=max_tokens, deadline_ns=deadline_ns, cancelled=cancelled),
            schema=read_schema(schema),
            drafts=drafts_of(draft),
        )
    except TypeError as exc:
        raise ContractError(f"max_tokens, temperature, top_p and seed are numbers: {exc}") from exc


Question = tuple[str, Any]  # with its schema, or None


def questions_of(given: Sequence[str | Question]) -> list[Question]:
    """What is asked about the same pictures.

    Raises:
        ContractError: nothing, or what is neither a text nor a text and a schema.
    """
    asked = [(q, None) if isinstance(q, str) else q for q in given]
    if not asked:
        raise ContractError("ask_many needs at least one question")
    if odd := [q for q in asked if not isinstance(q, tuple) or len(q) != 2]:
        raise ContractError(f"a question is a text or (text, schema), got {odd[0]!r:.200}")
    return asked


def drafts_of(given: Drafts | bool) -> Drafts | None:
    """What a caller's ``draft`` means: its own, new ones for a single answer, or none."""
    if isinstance(given, Drafts):
        return given
    return Drafts() if given else None


def drafts_of_many(given: Sequence[Drafts] | bool, count: int) -> list[Drafts | None]:
    """The same of ``count`` questions, each with its own.

    Raises:
        ContractError: another number of them.
    """
    if isinstance(given, bool):
        return [drafts_of(given) for _ in range(count)]
    if len(given) != count:
        raise ContractError(f"{count} questions and {len(given)} drafts: each question has its own")
    return list(given)
