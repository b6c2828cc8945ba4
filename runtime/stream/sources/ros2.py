"""A live ROS 2 topic, where ``rclpy`` is installed.

It subscribes as sensors are published: best effort, volatile, the newest five. What such a
subscriber cannot hear is reported as ``qos_incompatible``. It has not been run, for want of ROS.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from edgevlm.errors import ConfigError, ImageError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, Frame, FrameItem, SourceFault
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.ros import SETUP, make_node
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.ros_image import COMPRESSED, IMAGE, header_of, pixels_of

SLICE_S = 0.1
DEPTH = 5
_URI = re.compile(r"ros2:(/[A-Za-z_][\w/]*)")


class Ros2Source:
    """The images of one topic, from now on.

    Args:
        uri: ``ros2:/camera/image``; topics that end in ``/compressed`` hold CompressedImage.
        clock: stamps arrivals.
        timeout_s: how long the topic may stay silent.
        watch: told of every picture's format; one of its own when None.

    Raises:
        ConfigError: another form of URI.
        SourceUnavailable: no ``rclpy`` here.
    """

    live = True

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        match = _URI.fullmatch(uri)
        if match is None:
            raise ConfigError(f"a ROS 2 topic is ros2:/camera/image, got {uri!r}")
        self.name = uri
        self._topic = match[1]
        self._clock = clock
        self._timeout_s = timeout_s
        self._watch = watch or FormatWatch(uri)
        try:
            import rclpy
        except ImportError as exc:
            raise SourceUnavailable(
                f"{uri} {SETUP}; recordings need no ROS: mcap:FILE?topic=..., rosbag2:DIR?topic=..."
            ) from exc
        self._rclpy: Any = rclpy
        self._node: Any = None
        self._came: deque[Any] = deque(maxlen=DEPTH)
        self._faults: deque[SourceFault] = deque(maxlen=DEPTH)
        self._native = Native(self._stop)

    def frames(self) -> Iterator[FrameItem]:
        """Yield images as they come.

        Raises:
            SourceStalled: the topic stayed silent.
        """
        kind = COMPRESSED if self._topic.endswith("/compressed") else IMAGE
        index, heard_ns = 0, self._clock.monotonic_ns()
        try:
            self._native.use(lambda: self._subscribe(kind))
            while not self._native.closed:
                self._native.use(self._spin)
                yield from self._faults
                self._faults.clear()
                while self._came:
                    heard_ns = self._clock.monotonic_ns()
                    yield from self._frame(self._came.popleft(), kind, index, heard_ns)
                    index += 1
                if self._clock.monotonic_ns() - heard_ns > self._timeout_s * 1e9:
                    raise SourceStalled(f"{self.name}: no message within {self._timeout_s:g} s")
        finally:
            self.close()

    def close(self) -> None:
        """Unsubscribe; a wait under way ends within ``SLICE_S``."""
        self._native.close()

    def _subscribe(self, kind: str) -> None:
        from rclpy.event_handler import SubscriptionEventCallbacks
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import CompressedImage, Image

        self._node = make_node("edgevlm")
        self._node.create_subscription(
            CompressedImage if kind == COMPRESSED else Image,
            self._topic,
            self._came.append,
            qos_profile_sensor_data,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._incompatible),
        )

    def _incompatible(self, event: Any) -> None:
        self._faults.append(
            SourceFault(
                code="qos_incompatible",
                message=f"{self.name}: a publisher offers less than best effort and volatile "
                f"(policy {event.last_policy_kind}); its images are not heard",
            )
        )

    def _spin(self) -> None:
        self._rclpy.spin_once(self._node, timeout_sec=SLICE_S)

    def _frame(self, message: Any, kind: str, index: int, now_ns: int) -> Iterator[FrameItem]:
        try:
            header = header_of(message)
            pixels, layout = pixels_of(message, kind)
        except ImageError as exc:
            yield BadFrame(index=index, reason=f"{self._topic}, message {index}: {exc}")
            return
        if fault := self._watch.fault(pixels.size_wh, layout):
            yield fault
        stamped = header.stamp_ns is not None
        yield Frame(
            index=index,
            pixels=pixels,
            captured_ns=header.stamp_ns if header.stamp_ns is not None else self._clock.wall_ns(),
            monotonic_ns=now_ns,
            clock="header" if stamped else "arrival",
            frame_id=header.frame_id,
        )

    def _stop(self) -> None:
        if self._node is not None:
            self._node.destroy_node()
