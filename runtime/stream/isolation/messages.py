"""What a stream's process and a model's process say to each other.

::

    parent  ── Load ──────────────▶  child
            ◀────────── Ready, Failed
            ── Ask, AskMany, Encode, ... ──▶
            ◀──────────────────── Beat        between two tokens
            ── Go ─────────────────▶          on, or no further token
            ◀─── Answered, Gave, Failed

A lane has one question at a time, whose ``number`` stands in everything that is said about it.
While it waits for ``Go``, other lanes may work. Pictures and other arrays lie in ``SharedArrays``;
messages say where.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edgevlm import errors
from edgevlm.answer import Answer
from edgevlm.bundle.provenance import ParitySummary
from edgevlm.errors import BackendError, EdgeVLMError
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.stream.isolation.shared import Placed

Schema = Union[dict[str, Any], None]  # noqa: UP007 - an alias on 3.10
Trees = list[Any]  # of ``trees.packed``, one a picture


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Load(_Message):
    """The first message: what to load; see ``edgevlm.runtime.model.load.load``."""

    kind: Literal["load"] = "load"
    bundle: str
    backend: str
    threads: int
    spin: bool
    verify: Literal["always", "once", "size"]
    cpu_fallback: bool
    trust_engines: bool
    fallback: str | None
    visual_tokens: int | None
    memory_mb: int | None = Field(description="heap that the process may have")
    lanes: int = Field(ge=1, description="models over the same weights, a cache for each")


class _Said(_Message):
    number: int


class _ToLane(_Said):
    lane: int = Field(ge=0, description="which of the models over the same weights")


class _Choosing(_ToLane):
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None


class Ask(_Choosing):
    """``Vlm.ask``; in place of a picture stands its number among ``pictures``."""

    kind: Literal["ask"] = "ask"
    messages: list[Any]
    pictures: Trees
    arrays: list[Placed]
    schema_: Schema
    drafts: Drafts | None = Field(description="what the question's answers taught so far")
    deadline_ns: int | None


class AskMany(_Choosing):
    """``Vlm.ask_many``."""

    kind: Literal["ask_many"] = "ask_many"
    pictures: Trees
    arrays: list[Placed]
    questions: list[tuple[str, Schema]]
    system: str | None
    drafts: list[Drafts] | None = Field(description="as of ``Ask``, of each question")
    together: bool


class Encode(_ToLane):
    """``Vlm.encode``."""

    kind: Literal["encode"] = "encode"
    pictures: Trees
    arrays: list[Placed]
    among: int


class Relevance(_ToLane):
    """``Vlm.relevance``."""

    kind: Literal["relevance"] = "relevance"
    pictures: Trees
    arrays: list[Placed]
    question: str


class EncodeText(_ToLane):
    """``Vlm.encode_text``."""

    kind: Literal["encode_text"] = "encode_text"
    texts: list[str]


class Go(_ToLane):
    """Whether the next token may be begun."""

    kind: Literal["go"] = "go"
    on: bool


class Ready(_Message):
    """The model is loaded."""

    kind: Literal["ready"] = "ready"
    backend: str
    parity: ParitySummary | None
    missed: Missed | None


class Beat(_Said):
    """A sign of life between two tokens: the child waits for ``Go``."""

    kind: Literal["beat"] = "beat"


class Answered(_Said):
    """Answers, and what each of them taught where something learns."""

    kind: Literal["answered"] = "answered"
    answers: list[Answer]
    drafts: list[Drafts] | None


class Gave(_Said):
    """An encoded picture, embeddings or figures: a tree of ``trees.packed`` and its arrays."""

    kind: Literal["gave"] = "gave"
    tree: Any
    arrays: list[Placed]


class Failed(_Message):
    """An error of edgevlm, by the name of its class."""

    kind: Literal["failed"] = "failed"
    number: int | None
    error: str
    message: str


Question = Union[Ask, AskMany, Encode, EncodeText, Relevance]  # noqa: UP007 - pydantic on 3.10
ToChild = Union[Load, Ask, AskMany, Encode, EncodeText, Relevance, Go]  # noqa: UP007 - pydantic on 3.10
ToParent = Union[Ready, Beat, Answered, Gave, Failed]  # noqa: UP007
TO_CHILD: TypeAdapter[ToChild] = TypeAdapter(Annotated[ToChild, Field(discriminator="kind")])
TO_PARENT: TypeAdapter[ToParent] = TypeAdapter(Annotated[ToParent, Field(discriminator="kind")])


def as_error(said: Failed) -> EdgeVLMError:
    """The error that a child met."""
    kind = getattr(errors, said.error, None)
    if not isinstance(kind, type) or not issubclass(kind, EdgeVLMError):
        kind = BackendError
    error: EdgeVLMError = kind(said.message)
    return error
