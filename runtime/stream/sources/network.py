"""One connection to a network camera, decoded by libav through PyAV."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from edgevlm.errors import ConfigError, SourceStalled, SourceUnauthorized, SourceUnavailable
from edgevlm.frame import BadFrame, FrameItem
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.handover import Asked
from edgevlm.runtime.stream.sources.arrival import Pace, Timeline, arrived
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.uri import dialled, redact, scrub
from edgevlm.runtime.stream.sources.video import VideoStream

PICTURE_WAITS = 3  # times timeout_s; cameras send a key frame every 1 to 20 s
NO_STAMPS = ("mpjpeg", "mjpeg")  # libav makes them up, 25 a second


class NetworkSource:
    """The frames of one connection, from its first key frame on.

    The camera is dialled when ``frames`` is first read, not before, so that nothing piles up in
    the connection while a model loads. What has an end, as a recording behind HTTP, is played at
    its own pace.

    Args:
        uri: of one of ``schemes``.
        clock: stamps frames.
        timeout_s: bound of the look-up of the host name, of the dial, of the wait for a packet,
            and so of a close during any of them.
        watch: told of every picture's format; one of its own when None.

    Raises:
        ConfigError: another scheme, no host, or a timeout that is not positive.
    """

    live = True
    schemes: tuple[str, ...] = ()
    may_end = False

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        if timeout_s <= 0:
            raise ConfigError(f"timeout_s must be positive, got {timeout_s}")
        self.name = redact(uri)
        self._uri = dialled(uri)
        if not self._uri.startswith(self.schemes):
            raise ConfigError(f"{self.name} must start with {' or '.join(self.schemes)}")
        self._clock = clock
        self._timeout_s = timeout_s
        self._watch = watch or FormatWatch(self.name)
        self._container: Any = None
        self._stream: VideoStream | None = None
        self._native = Native(self._hang_up)

    def frames(self) -> Iterator[FrameItem]:
        """Dial, then yield frames as they come.

        Raises:
            SourceUnauthorized: the camera refused the credentials.
            SourceUnavailable: no connection, or no such stream.
            SourceStalled: no packet, or no whole picture, for too long, or the stream ended.
        """
        try:
            yield from self._frames()
        except (SourceUnavailable, SourceStalled):
            if not self._native.closed:  # closed while it waited: the end, not a failure
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Hang up; a dial or read under way ends within the timeout."""
        self._native.close()

    def options(self) -> dict[str, str]:
        """How libav dials.

        Raises:
            SourceUnavailable: this libav cannot.
        """
        raise NotImplementedError

    def check(self, container: str) -> None:
        """Refuse what a connection turned out to be.

        Args:
            container: libav's name of its format.

        Raises:
            SourceUnavailable: it is not to be read.
        """

    def _frames(self) -> Iterator[FrameItem]:
        self._look_up()
        stream = self._native.use(self._dial)
        if stream is None:
            return
        timeline, stamped = Timeline(stream.step_s), self._container.format.name not in NO_STAMPS
        pace = Pace(self._clock, lambda: self._native.closed) if self._ends() else None
        index = 0
        for pictures, came_ns in self._pictures(stream):
            for picture in pictures:
                if isinstance(picture, str):
                    yield BadFrame(index=index, reason=picture)
                else:
                    pixels = stream.pixels(picture)
                    if fault := self._watch.fault(pixels.size_wh, stream.layout(picture)):
                        yield fault
                    media_s = timeline.at(stream.stamp_s(picture) if stamped else came_ns / 1e9)
                    if fault := timeline.jumped(self.name):
                        yield fault
                    if pace is not None:
                        if not pace.wait(media_s):
                            return
                        came_ns = self._clock.monotonic_ns()
                    yield arrived(self._clock, index, pixels, media_s, came_ns)
                index += 1

    def _pictures(self, stream: VideoStream) -> Iterator[tuple[list[Any], int]]:
        """What each packet completes, from the first key frame on, and when it came."""
        started, seen_s = False, time.monotonic()
        patience_s = PICTURE_WAITS * self._timeout_s
        while (packet := self._native.use(partial(self._read, stream.packets))) is not None:
            came_ns = self._clock.monotonic_ns()
            if packet is False:
                yield self._native.use(partial(stream.decode, None)) or [], came_ns
                return
            if time.monotonic() - seen_s > patience_s:
                what = "whole picture" if started else "key frame"
                raise SourceStalled(f"{self.name} sent no {what} for {patience_s:g} s")
            started = started or bool(packet.is_keyframe)
            if started:
                pictures = self._native.use(partial(stream.decode, packet)) or []
                yield pictures, came_ns
                if any(not isinstance(picture, str) for picture in pictures):
                    seen_s = time.monotonic()

    def _ends(self) -> bool:
        return self.may_end and bool(self._container.duration)

    def _look_up(self) -> None:
        """Bounded here, because libav waits for the system's resolver for as long as that takes."""
        parts = urlsplit(self._uri)
        asked = Asked(partial(socket.getaddrinfo, parts.hostname, parts.port or 0))
        try:
            if asked.answered(self._timeout_s):
                return
            problem = f"the look-up of its name took over {self._timeout_s:g} s"
        except (OSError, UnicodeError) as exc:
            said = scrub(str(getattr(exc, "strerror", None) or exc), self._uri)
            problem = f"{said}; is the host name right?"
        raise SourceUnavailable(f"{self.name} cannot be opened: {problem}")

    def _dial(self) -> VideoStream:
        import av

        options = self.options()
        # libav spends the first of these twice: to connect, and to learn the stream.
        limits = (self._timeout_s / 2, self._timeout_s)
        began = time.monotonic()
        try:
            self._container = av.open(
                self._uri, options=options, timeout=limits, metadata_errors="replace"
            )
        except av.error.FFmpegError as exc:
            refused = isinstance(exc, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError)
            problem = self._why(exc, time.monotonic() - began, limits[0], dialling=True)
        else:
            self.check(self._container.format.name)
            self._stream = VideoStream(self._container, self.name)
            return self._stream
        # Outside of `except`: libav's exception holds the URI, and a chained one is printed.
        kind = SourceUnauthorized if refused else SourceUnavailable
        raise kind(f"{self.name} cannot be opened: {problem}")

    def _read(self, packets: Iterator[Any]) -> Any:
        """The next packet; False behind the last one of what has an end."""
        import av

        began = time.monotonic()
        problem = "the server ended the stream"
        try:
            packet = next(packets, None)
            late = time.monotonic() - began >= self._timeout_s
            if packet is not None and packet.size and not late:
                return packet
            if late:  # libav gives out a last packet before it reports the interruption
                problem = f"no answer within {self._timeout_s:g} s"
            elif self._ends():
                return False
        except av.error.FFmpegError as exc:
            problem = self._why(exc, time.monotonic() - began, self._timeout_s)
        raise SourceStalled(f"{self.name} stopped: {problem}")

    def _why(self, exc: Any, waited_s: float, limit_s: float, dialling: bool = False) -> str:
        import av

        if isinstance(exc, av.error.HTTPUnauthorizedError):
            return "authentication failed (401); check user and password"
        # At a timeout libav says "exit requested" or "invalid data".
        if isinstance(exc, av.error.ExitError) or waited_s >= limit_s:
            return f"no answer within {limit_s:g} s"
        hint = ""
        if dialling and isinstance(
            exc, av.error.OSError
        ):  # all that libav says of a name or a certificate
            hint = "; is the host name right?"
            if self._uri.startswith(("rtsps:", "https:")):
                hint = "; is the certificate trusted here (SSL_CERT_FILE), and for this host name?"
        return f"{scrub(str(exc.strerror), self._uri)}{hint}"

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._container is not None:
            self._container.close()


def checked_certificates() -> dict[str, str]:
    """Options of libav under which a certificate and its host name are checked.

    Against the system's authorities, or the file that ``SSL_CERT_FILE`` names.
    """
    options = {"tls_verify": "1"}
    if authorities := ssl.get_default_verify_paths().cafile:
        options["ca_file"] = authorities
    return options
