"""What a stream asks of a model: a ``Vlm`` of this process, or one that stands for another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from typing_extensions import Unpack

from edgevlm.answer import Answer
from edgevlm.bundle import Bundle
from edgevlm.bundle.provenance import ParitySummary
from edgevlm.errors import BackendError
from edgevlm.runtime.model.asking import Choice, ChoiceOfOne, Question
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.vision import Encoded
from edgevlm.runtime.stream.compose import Notice
from edgevlm.tensors import Float32


class Named(Protocol):
    """A backend, as far as a stream knows it."""

    @property
    def name(self) -> str:
        """The registry name."""
        ...


class Model(Protocol):
    """A loaded bundle that answers. One asker at a time; arguments and errors as in ``Vlm``.

    ``cancelled`` is asked in the caller's process and thread, between two tokens, and the next
    token is not begun before it has answered.
    """

    @property
    def bundle(self) -> Bundle:
        """What it was loaded from."""
        ...

    @property
    def backend(self) -> Named:
        """What runs its graphs."""
        ...

    @property
    def parity(self) -> ParitySummary | None:
        """The certificate of the graphs that it runs; None without one."""
        ...

    @property
    def missed(self) -> Missed | None:
        """The backend in whose place this one answers."""
        ...

    def ask(
        self,
        image: Any = None,
        question: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        system: str | None = None,
        **choice: Unpack[ChoiceOfOne],
    ) -> Answer:
        """One answer; a ``BackendError`` costs this answer, a ``BackendGone`` all that follow."""
        ...

    def ask_many(
        self,
        image: Any,
        questions: Sequence[str | Question],
        *,
        system: str | None = None,
        draft: Sequence[Drafts] | bool = True,
        together: bool = True,
        **choice: Unpack[Choice],
    ) -> list[Answer]:
        """Several questions about the same pictures."""
        ...

    def encode(self, image: Any, among: int = 1) -> Encoded:
        """One pass of the vision encoder; ``ask`` takes what comes out in the picture's place."""
        ...

    def relevance(self, frames: Sequence[Encoded], question: str) -> list[float] | None:
        """How well encoded frames fit a question; None where the bundle cannot tell."""
        ...

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Embeddings of texts."""
        ...

    def close(self) -> None:
        """Release it. Legal in every state, any number of times."""
        ...


@runtime_checkable
class Kept(Protocol):
    """A model that is looked after between two frames: it may fail and come back, or be swapped."""

    @property
    def model(self) -> Model:
        """The one that answers now."""
        ...

    def poll(self) -> Iterator[BackendError | Notice]:
        """Look how things are and take the next step, without waiting.

        Yields:
            what happened since the last call, for the stream to say.
        """
        ...

    def close(self) -> None:
        """Release the model and what looks after it. Legal in every state."""
        ...
