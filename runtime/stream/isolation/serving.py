"""A lane of a model's process: questions in, answers out, one after another."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

from edgevlm.errors import ContractError, EdgeVLMError
from edgevlm.runtime.model.messages import replaced
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.isolation.channel import Broken, Channel
from edgevlm.runtime.stream.isolation.messages import (
    Answered,
    Ask,
    AskMany,
    Beat,
    Encode,
    EncodeText,
    Failed,
    Gave,
    Go,
    Question,
    Relevance,
    ToChild,
    ToParent,
)
from edgevlm.runtime.stream.isolation.shared import Placed, SharedArrays
from edgevlm.runtime.stream.isolation.trees import packed, unpacked
from edgevlm.tensors import Array

SEND_S = 60.0  # for the parent to take a message


class Lane:
    """A model, told from one thread and working on another; ``WayIn`` of its own replies.

    Args:
        model: that answers.
        channel: to the parent; shared with other lanes.
        saying: held while something is said.
        pictures: where the arrays of questions lie.
        results: where those of replies go.
        alone: there is no other lane, whose questions would overwrite the pictures of this one's.
    """

    def __init__(
        self,
        model: Vlm,
        channel: Channel[ToChild],
        saying: threading.Lock,
        pictures: SharedArrays,
        results: SharedArrays,
        alone: bool,
    ) -> None:
        self._model = model
        self._channel = channel
        self._saying = saying
        self._pictures = pictures
        self._results = results
        self._alone = alone
        self._told: SimpleQueue[Question | Go | None] = SimpleQueue()
        self.busy = False

    def tell(self, message: Question | Go | None) -> None:
        """A question, leave to go on with it, or None: there will be no other."""
        if message is not None and not isinstance(message, Go):
            self.busy = True
        self._told.put(message)

    def replies(self) -> Iterator[ToParent]:
        """Answer questions until there are no more."""
        while (asked := self._told.get()) is not None:
            if isinstance(asked, Go):
                raise ContractError("nobody waited for go")
            try:
                reply = self._reply(asked)
            except EdgeVLMError as exc:
                reply = failed(asked.number, exc)
            yield reply

    def put(self, item: ToParent) -> bool:
        """Say a reply."""
        self._say(item)
        self.busy = False
        return True

    def close(self, error: BaseException | None = None) -> None:
        """The thread has ended; with an error nothing that this process says is to be believed."""
        if error is not None:
            if not isinstance(error, Broken):
                traceback.print_exception(error)
                sys.stderr.flush()
            os._exit(1)

    def _say(self, message: ToParent) -> None:
        with self._saying:
            self._channel.send(message, SEND_S)

    def _reply(self, asked: Question) -> ToParent:
        """What the model says.

        Raises:
            EdgeVLMError: as the method of ``Vlm``.
            Broken: the parent has closed the connection.
        """
        model, number = self._model, asked.number
        if isinstance(asked, EncodeText):
            return self._gave(number, model.encode_text(asked.texts))
        shown = self._shown(asked.pictures, asked.arrays)
        if isinstance(asked, Encode):
            return self._gave(number, model.encode(shown[0], asked.among))
        if isinstance(asked, Relevance):
            return self._gave(number, model.relevance(shown, asked.question))
        choosing: dict[str, Any] = {
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed,
            "cancelled": lambda: self._over(asked),
        }
        if isinstance(asked, AskMany):
            answers = model.ask_many(
                shown,
                asked.questions,
                system=asked.system,
                draft=asked.drafts or False,
                together=asked.together,
                **choosing,
            )
            return Answered(number=number, answers=answers, drafts=asked.drafts)
        answer = model.ask(
            messages=replaced(asked.messages, shown.__getitem__),
            schema=asked.schema_,
            draft=asked.drafts or False,
            deadline_ns=asked.deadline_ns,
            **choosing,
        )
        taught = None if asked.drafts is None else [asked.drafts]
        return Answered(number=number, answers=[answer], drafts=taught)

    def _over(self, asked: Ask | AskMany) -> bool:
        """The parent's stop rule: a sign of life, and leave to go on."""
        self._say(Beat(number=asked.number))
        said = self._told.get()
        if not isinstance(said, Go) or said.number != asked.number:
            raise Broken("said something else where go was due")
        return not said.on

    def _shown(self, trees: Sequence[Any], places: Sequence[Placed]) -> list[Any]:
        """Pictures, or what was encoded of them."""
        arrays = [self._pictures.read(place) for place in places]
        if not self._alone:
            arrays = [np.array(array) for array in arrays]
        return [unpacked(tree, arrays) for tree in trees]

    def _gave(self, number: int, value: Any) -> Gave:
        arrays: list[Array] = []
        tree = packed(value, arrays)
        return Gave(number=number, tree=tree, arrays=self._results.write(arrays))


def failed(number: int | None, error: EdgeVLMError) -> Failed:
    """An error, as it goes over the channel."""
    return Failed(number=number, error=type(error).__name__, message=str(error))
