"""Images of a robot's log, with the stamps and the frame_id of their headers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevlm.errors import ConfigError, ImageError, SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame, FrameItem, SourceFault
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Pace, Timeline
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.mcap_file import McapFile
from edgevlm.runtime.stream.sources.recorded import Message, Recording, choose, listed
from edgevlm.runtime.stream.sources.ros_image import header_of, pixels_of
from edgevlm.runtime.stream.sources.rosbag2 import Rosbag2

STEP_S = 1e-3  # between messages of one log time, or of one that goes back


class RecordingSource:
    """The images of one topic, in the order they were recorded.

    ``captured_ns`` is the stamp of the header (clock ``header``), or the time of recording where
    that is zero; positions follow the time of recording. A message that is no picture becomes a
    BadFrame that names topic and sequence number; a stretch that cannot be read becomes a
    ``damaged`` fault, and what can be read behind it is.

    Args:
        uri: ``mcap:FILE?topic=/camera/image`` or ``rosbag2:DIR?topic=...``; the topic may be left
            out where only one holds images.
        realtime: deliver at the pace of recording, as a live source does.
        clock: stamps arrivals and is waited on for the pace.

    Raises:
        ConfigError: options that are not known, or a topic that must be named.
        SourceUnavailable: not there, no recording, no such topic, or the readers are missing.
    """

    def __init__(self, uri: str, realtime: bool = False, clock: Clock = SYSTEM) -> None:
        scheme, place, topic = _parse(uri)
        self.name = f"{scheme}:{place}"
        self.live = realtime
        self._clock = clock
        self._closed = False
        self._recording: Recording = (McapFile if scheme == "mcap" else Rosbag2)(Path(place))
        topics = self._recording.topics()
        self._topic = topic if topics is None else choose(topic, topics, self.name)
        self._read = _reader(self.name)

    def frames(self) -> Iterator[FrameItem]:
        """Yield the images.

        Raises:
            SourceError: not one image could be read.
        """
        timeline, watch = Timeline(STEP_S), FormatWatch(self.name)
        pace = Pace(self._clock, lambda: self._closed)
        index = good = 0
        seen: dict[str, str] = {}
        first_ns = None
        for item in self._recording.messages(self._topic, seen):
            if self._closed:
                return
            if not isinstance(item, Message):
                yield SourceFault(code="damaged", message=item.what)
                continue
            first_ns = item.log_ns if first_ns is None else first_ns
            media_s = timeline.at((item.log_ns - first_ns) / 1e9)
            if jump := timeline.jumped(self.name):
                yield jump
            if self.live and not pace.wait(media_s):
                return
            frame, layout = self._frame(item, index, media_s)
            if isinstance(frame, Frame):
                good += 1
                if fault := watch.fault(frame.pixels.size_wh, layout):
                    yield fault
            yield frame
            index += 1
        if good == 0 and not self._closed:
            if self._topic is not None and self._topic not in seen:
                raise SourceError(f"{self.name} has no topic {self._topic}; {listed((), seen)}")
            raise SourceError(f"{self.name}: not one image could be read; {listed((), seen)}")

    def close(self) -> None:
        """End ``frames``."""
        self._closed = True

    def _frame(self, message: Message, index: int, media_s: float) -> tuple[Frame | BadFrame, str]:
        try:
            read = self._read(message)
            header = header_of(read)
            pixels, layout = pixels_of(read, message.type_name)
        except Exception as exc:  # deserialisers raise whatever the bytes provoke
            what = str(exc) if isinstance(exc, ImageError) else f"it cannot be read ({exc!r})"
            topic = self._topic or "the topic"
            reason = f"{topic}, message {message.sequence}: {what}"
            return BadFrame(index=index, reason=" ".join(reason.split())), ""
        stamped = header.stamp_ns is not None
        frame = Frame(
            index=index,
            pixels=pixels,
            captured_ns=header.stamp_ns if header.stamp_ns is not None else message.log_ns,
            monotonic_ns=self._clock.monotonic_ns(),
            media_s=media_s,
            clock="header" if stamped else "arrival",
            frame_id=header.frame_id,
        )
        return frame, layout


def _parse(uri: str) -> tuple[str, str, str | None]:
    scheme, _, rest = uri.partition(":")
    place, _, query = rest.partition("?")
    name, equals, topic = query.partition("=")
    if not place or (query and (name != "topic" or not equals or not topic)):
        raise ConfigError(f"a recording is {scheme.lower()}:PATH?topic=/camera/image, got {uri!r}")
    return scheme.lower(), place, topic or None


def _reader(name: str) -> Any:
    """What turns a message's bytes into an object with its fields."""
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as exc:
        raise SourceUnavailable(
            f"{name} needs the readers of robot logs; pip install 'edgevlm[ros]'"
        ) from exc
    two, one = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)

    def read(message: Message) -> Any:
        if message.encoding == "ros1":
            return one.deserialize_ros1(message.data, message.type_name)
        if message.encoding != "cdr":
            raise ImageError(f"its encoding is {message.encoding!r}; cdr and ros1 can be read")
        return two.deserialize_cdr(message.data, message.type_name)

    return read
