"""``ros2:/TOPIC``: each event as a ``std_msgs/String`` that holds its JSON.

Published as REP-2003 wants it, reliable, so that every subscriber can hear it; the last ten are
kept for slow ones. It has not been run, for want of ROS.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from edgevlm.errors import BackendUnavailable, ConfigError, SinkError
from edgevlm.runtime.stream.ros import SETUP, make_node
from edgevlm.runtime.stream.sinks.base import Told

DEPTH = 10
_URI = re.compile(r"ros2:(/[A-Za-z_][\w/]*)")


class Topic(Protocol):
    """One topic that takes texts."""

    def publish(self, text: str) -> None:
        """Hand one text to the middleware."""
        ...

    def close(self) -> None:
        """Take the publisher down; called once."""
        ...


class RclpyTopic:
    """A topic of ``std_msgs/String`` on a node of its own.

    Args:
        topic: its name.

    Raises:
        ImportError: no ``rclpy``.
    """

    def __init__(self, topic: str) -> None:
        from std_msgs.msg import String

        self._message = String
        self._node: Any = make_node("edgevlm_events")
        self._publisher = self._node.create_publisher(String, topic, DEPTH)

    def publish(self, text: str) -> None:
        """Hand one text to the middleware."""
        self._publisher.publish(self._message(data=text))

    def close(self) -> None:
        """Take the node down."""
        self._node.destroy_node()


class Ros2Sink:
    """Events on a ROS 2 topic.

    Args:
        uri: ``ros2:/edgevlm/events``.
        topic: opens it.

    Raises:
        ConfigError: another form of URI.
        BackendUnavailable: no ``rclpy`` here.
        SinkError: ROS refuses.
    """

    def __init__(self, uri: str, topic: Callable[[str], Topic] = RclpyTopic) -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise ConfigError(f"a ROS 2 topic is ros2:/edgevlm/events, got {uri!r}")
        self.name = uri
        self._lost = 0
        self._topic: Topic | None
        try:
            self._topic = topic(match[1])
        except ImportError as exc:
            raise BackendUnavailable(
                f"{uri} {SETUP}; without ROS: mqtt:, https: and jsonl: take the same events"
            ) from exc
        except Exception as exc:  # rclpy's exception types differ by release
            raise SinkError(f"{uri} cannot be opened: {exc}") from exc

    def write(self, told: Told) -> None:
        """Publish one event.

        Raises:
            SinkError: it is lost (said of the first in a row), or ROS takes events again.
        """
        if self._topic is None:
            raise SinkError(f"{self.name} is closed")
        try:
            self._topic.publish(told.event.model_dump_json())
        except Exception as exc:  # as above
            self._lost += 1
            if self._lost == 1:
                raise SinkError(f"{self.name}: events are lost: {exc}") from exc
            return
        if lost := self._lost:
            self._lost = 0
            raise SinkError(f"{self.name}: published again; {lost} events are lost")

    def close(self) -> None:
        """Take the topic down; may be called twice.

        Raises:
            SinkError: the last events are lost.
        """
        topic, self._topic = self._topic, None
        if topic is not None:
            topic.close()
        if lost := self._lost:
            self._lost = 0
            raise SinkError(f"{self.name}: the last {lost} events are lost")
