"""``rtsp(s)://HOST/PATH``: annotated frames as a live video on the user's RTSP server.

The server takes a stream by ANNOUNCE and RECORD (RFC 2326, 10.3 and 10.11), as MediaMTX and
GStreamer's RTSP server do.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

from PIL import Image

from edgevlm.errors import ConfigError, SinkError
from edgevlm.event import AnswerEvent, DropReason
from edgevlm.frame import Frame, UInt8
from edgevlm.runtime.stream.delivery.uri import Receiver
from edgevlm.runtime.stream.sinks.base import Decision, Told
from edgevlm.runtime.stream.sinks.publisher import Publisher
from edgevlm.runtime.stream.sinks.standing import Standing
from edgevlm.runtime.stream.sinks.video import annotated
from edgevlm.runtime.stream.sources.network import checked_certificates
from edgevlm.runtime.stream.sources.rtsp import CHECKS_CERTIFICATES
from edgevlm.runtime.stream.worker import Fed

OPTIONS = ("password_env", "transport", "timeout")
TIMEOUT_S = 5.0
CHILD = (sys.executable, "-m", "edgevlm.runtime.stream.sinks.rtsp_child")
_log = logging.getLogger(__name__)


class RtspSink:
    """Publishes the frames that were looked at, each with the answer that stands.

    Encoding and sending are a child's work and a thread's: the stream only hands pictures over.
    Where the server is slower, the newest picture is sent next and the others are counted; where it
    is away, it is tried again, ever more slowly up to a minute.

    Args:
        uri: as in ``rtsp://user@host:8554/door#password_env=NAME&transport=udp&timeout=5``.

    Raises:
        ConfigError: no host, an unknown option, or no such environment variable.
        SinkError: ``rtsps`` with a libav that checks no certificates.
    """

    def __init__(self, uri: str) -> None:
        receiver = Receiver.parse(uri, OPTIONS)
        self.name = receiver.name
        self._uri = _with_password(receiver)
        self._timeout_s = receiver.seconds("timeout", TIMEOUT_S)
        self._libav = self._options(receiver)
        self._standing = Standing()
        self._fresh: UInt8 | None = None  # waits for its answer
        self._publisher: Publisher | None = Publisher(self._connect, 2 * self._timeout_s)

    def _options(self, receiver: Receiver) -> dict[str, str]:
        import av

        transport = receiver.options.get("transport", "tcp")
        if transport not in ("tcp", "udp"):
            raise ConfigError(f"{self.name}: transport is tcp or udp, got {transport!r}")
        options = {"rtsp_transport": transport, "timeout": str(round(self._timeout_s * 1e6))}
        if receiver.parts.scheme == "rtsps":
            if av.library_versions["libavformat"] < CHECKS_CERTIFICATES:
                raise SinkError(
                    f"{self.name}: this libav checks no certificates; pip install 'av>=16'"
                )
            options |= checked_certificates()
        return options

    def _connect(self, size_wh: tuple[int, int]) -> Fed:
        child = Fed(CHILD)
        settings = {"uri": self._uri, "options": self._libav}
        size = {"width": size_wh[0], "height": size_wh[1]}
        child.feed(json.dumps(settings | size).encode() + b"\n", self._timeout_s)
        return child

    def seen(
        self,
        frame: Frame,
        do: Decision,
        _dropped: Mapping[DropReason, int],
        _asks: Sequence[int] = (),
    ) -> None:
        """A frame was looked at: published now, or with the answer that it is about to get."""
        publisher = self._publisher
        self._fresh = None
        if publisher is None or not publisher.wanted():
            return
        image = frame.pixels.rgb()
        if do == "answer":
            self._fresh = image
        else:
            self._publish(publisher, image, fresh=False)

    def write(self, told: Told) -> None:
        """Note what stands, and publish the frame that got this answer.

        Raises:
            SinkError: the server went away, or is back.
        """
        publisher = self._publisher
        if publisher is None:
            raise SinkError(f"{self.name} is closed")
        self._standing.take(told.event)
        if isinstance(told.event, AnswerEvent) and self._fresh is not None:
            self._publish(publisher, self._fresh, fresh=True)  # again with each further answer
        if said := publisher.take_said():
            raise SinkError(f"{self.name}: {'; '.join(said)}")

    def _publish(self, publisher: Publisher, image: UInt8, *, fresh: bool) -> None:
        publisher.offer(partial(_drawn, image, self._standing.text, self._standing.states, fresh))

    def close(self) -> None:
        """Publish the last picture and hang up; may be called twice.

        Raises:
            SinkError: at the end nothing could be published.
        """
        if self._publisher is None:
            return
        publisher, self._publisher = self._publisher, None
        publisher.close()
        _log.info(
            "%s: %d pictures published, %d dropped", self.name, publisher.sent, publisher.dropped
        )
        if publisher.trouble:
            raise SinkError(
                f"{self.name}: not published at the end: {publisher.trouble}; "
                f"{publisher.dropped} pictures were dropped"
            )


def _drawn(image: UInt8, text: str, states: tuple[str, ...], fresh: bool) -> Image.Image:
    return annotated(image, text, states, fresh=fresh)


def _with_password(receiver: Receiver) -> str:
    parts, password = receiver.parts, receiver.secret("password_env")
    if password is None:
        return parts.geturl()
    host = parts.netloc.rpartition("@")[2]
    user = quote(parts.username or "", safe="")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
