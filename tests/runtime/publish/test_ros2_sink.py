from __future__ import annotations

import json
import sys

import pytest

from edgevlm.errors import BackendUnavailable, ConfigError, SinkError
from edgevlm.runtime.stream.sinks import open_sink
from edgevlm.runtime.stream.sinks.ros2 import Ros2Sink
from tests.runtime.stream.told import fault, told


class Memory:
    """A topic that keeps what it is given, and refuses while it is told to."""

    def __init__(self, name: str) -> None:
        self.name, self.texts, self.refuses, self.closed = name, [], False, 0

    def publish(self, text: str) -> None:
        if self.refuses:
            raise RuntimeError("publisher's context is invalid")
        self.texts.append(text)

    def close(self) -> None:
        self.closed += 1


def test_every_event_becomes_one_text_of_json_on_the_topic():
    topics: list[Memory] = []
    sink = Ros2Sink("ros2:/edgevlm/events", lambda name: topics.append(Memory(name)) or topics[0])
    sink.write(told(0, "a cat"))
    sink.write(fault(1))
    sink.close()
    sink.close()
    (topic,) = topics
    assert topic.name == "/edgevlm/events"
    assert [json.loads(text)["kind"] for text in topic.texts] == ["answer", "fault"]
    assert json.loads(topic.texts[0])["text"] == "a cat"
    assert topic.closed == 1
    with pytest.raises(SinkError, match="is closed"):
        sink.write(told(2))


def test_what_ros_refuses_is_said_once_and_counted():
    topic = Memory("/e")
    sink = Ros2Sink("ros2:/e", lambda _: topic)
    topic.refuses = True
    with pytest.raises(SinkError, match="events are lost: publisher's context is invalid"):
        sink.write(told(0))
    sink.write(told(1))
    topic.refuses = False
    with pytest.raises(SinkError, match="published again; 2 events are lost"):
        sink.write(told(2))
    sink.write(told(3))
    topic.refuses = True
    with pytest.raises(SinkError, match="events are lost"):
        sink.write(told(4))
    with pytest.raises(SinkError, match="the last 1 events are lost"):
        sink.close()
    assert [json.loads(text)["seq"] for text in topic.texts] == [2, 3]


def test_without_ros_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.setitem(sys.modules, "std_msgs", None)
    with pytest.raises(BackendUnavailable, match=r"source /opt/ros/DISTRO/setup\.bash"):
        open_sink("ros2:/edgevlm/events")


@pytest.mark.parametrize("uri", ["ros2:", "ros2:events", "ros2:/1st", "ros2:/a b"])
def test_names_that_are_no_topic(uri):
    with pytest.raises(ConfigError, match="a ROS 2 topic is ros2:/edgevlm/events"):
        open_sink(uri)
