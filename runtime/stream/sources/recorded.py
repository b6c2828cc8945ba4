"""What recordings of robots are made of: messages, and stretches that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Union

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.runtime.stream.sources.ros_image import COMPRESSED, IMAGE


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the topic that is read, still serialised.

    Args:
        log_ns: when it was recorded.
        type_name: of ROS 2's spelling, as ``sensor_msgs/msg/Image``.
        encoding: ``cdr`` or ``ros1``.
        data: its bytes.
        sequence: what the recording calls it, for error messages.
    """

    log_ns: int
    type_name: str
    encoding: str
    data: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a recording that cannot be read."""

    what: str


Recorded = Union[Message, Damage]  # noqa: UP007 - an alias on 3.10


class Recording(Protocol):
    """A file or a folder of messages."""

    def topics(self) -> Mapping[str, str] | None:
        """Type by topic, as the index says; None where there is no index."""
        ...

    def messages(self, topic: str | None, seen: dict[str, str]) -> Iterator[Recorded]:
        """Messages in the order they were recorded, as far as they can be read.

        Args:
            topic: None takes the first topic with images.
            seen: is told every topic and its type.
        """
        ...


def type_of(name: str) -> str:
    """A message type in ROS 2's spelling."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest.removeprefix('msg/')}"


def is_image(type_name: str) -> bool:
    """True of the types that can be read."""
    return type_name in (IMAGE, COMPRESSED)


def choose(topic: str | None, topics: Mapping[str, str], name: str) -> str:
    """The topic that was asked for, or the only one with images.

    Raises:
        SourceUnavailable: it is not there, or holds no images; the message lists what is there.
        ConfigError: none was asked for and there are several.
    """
    images = sorted(t for t, kind in topics.items() if is_image(kind))
    if topic is not None:
        if topic in images:
            return topic
        if topic in topics:
            raise SourceUnavailable(
                f"{name}: {topic} holds {topics[topic]}, not images; {listed(images, topics)}"
            )
        raise SourceUnavailable(f"{name} has no topic {topic}; {listed(images, topics)}")
    if not images:
        raise SourceUnavailable(f"{name} has no topic with images; {listed(topics, topics)}")
    if len(images) > 1:
        raise ConfigError(f"{name}: say which topic, as ?topic={images[0]}; {listed(images, {})}")
    return images[0]


def listed(names: Iterable[str], topics: Mapping[str, str]) -> str:
    """Topics for a message: those with images, or else all of them."""
    known = sorted(names)
    if known:
        return f"topics with images: {', '.join(known)}"
    if topics:
        return f"topics: {', '.join(f'{t} ({kind})' for t, kind in sorted(topics.items()))}"
    return "it holds no topic at all"
