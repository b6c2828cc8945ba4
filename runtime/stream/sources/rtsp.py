"""A network camera over RTSP, decoded by libav through PyAV."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from edgevlm.errors import ConfigError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Timeline, arrived
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.uri import dialled, redact, scrub
from edgevlm.runtime.stream.sources.video import VideoStream

KEY_FRAME_WAITS = 3  # times timeout_s; cameras send a key frame every 1 to 20 s
CHECKS_CERTIFICATES = (62, 0, 0)  # libavformat of FFmpeg 8; before, RTSP drops `tls_verify`


class RtspSource:
    """The frames of an RTSP camera, over TCP, from its first key frame on.

    The camera is dialled when ``frames`` is first read, not before, so that nothing piles up in
    the connection while a model loads. Of ``rtsps`` the certificate and the host name are checked
    against the system's authorities, or the file that ``SSL_CERT_FILE`` names.

    Args:
        uri: ``rtsp://[user:password@]host[:port]/path`` or ``rtsps://``.
        clock: stamps frames.
        timeout_s: bound of the whole dial, of the wait for a packet, and so of a close during
            either; looking up a host name is the system's and not bounded here.

    Raises:
        ConfigError: another scheme, no host, or a timeout that is not positive.
    """

    live = True

    def __init__(self, uri: str, clock: Clock = SYSTEM, timeout_s: float = 10.0) -> None:
        if timeout_s <= 0:
            raise ConfigError(f"timeout_s must be positive, got {timeout_s}")
        self.name = redact(uri)
        self._uri = dialled(uri)
        if not self._uri.startswith(("rtsp://", "rtsps://")):
            raise ConfigError(f"{self.name} must start with rtsp:// or rtsps://")
        self._clock = clock
        self._timeout_s = timeout_s
        self._container: Any = None
        self._native = Native(self._hang_up)

    def frames(self) -> Iterator[Frame | BadFrame]:
        """Dial, then yield frames as they come.

        Raises:
            SourceUnavailable: no connection, no such stream, or authentication failed.
            SourceStalled: no packet, or no key frame, for too long, or the stream ended.
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

    def _frames(self) -> Iterator[Frame | BadFrame]:
        stream = self._native.use(self._dial)
        if stream is None:
            return
        timeline = Timeline(stream.step_s)
        index, started, patience_s = 0, False, KEY_FRAME_WAITS * self._timeout_s
        began = time.monotonic()
        while (packet := self._native.use(partial(self._read, stream.packets))) is not None:
            came_ns = self._clock.monotonic_ns()
            started = started or bool(packet.is_keyframe)
            if not started:
                if time.monotonic() - began > patience_s:
                    raise SourceStalled(f"{self.name} sent no key frame for {patience_s:g} s")
                continue
            for picture in self._native.use(partial(stream.decode, packet)) or ():
                if isinstance(picture, str):
                    yield BadFrame(index=index, reason=picture)
                else:
                    media_s = timeline.at(stream.stamp_s(picture))
                    yield arrived(self._clock, index, stream.pixels(picture), media_s, came_ns)
                index += 1

    def _dial(self) -> VideoStream:
        import av

        options = {
            "rtsp_transport": "tcp",
            "allowed_media_types": "video",  # sound would keep a read alive without pictures
            "protocol_whitelist": "rtsp,rtp,tcp",
            "fpsprobesize": "0",  # the first picture after 0.3 s, where libav's guess takes 1.1
            "analyzeduration": "500000",
        }
        if self._uri.startswith("rtsps:"):
            if av.library_versions["libavformat"] < CHECKS_CERTIFICATES:
                raise SourceUnavailable(
                    f"{self.name}: this libav checks no certificates; pip install 'av>=16'"
                )
            options |= {"protocol_whitelist": "rtsp,rtp,tcp,tls", "tls_verify": "1"}
            if authorities := ssl.get_default_verify_paths().cafile:
                options["ca_file"] = authorities
        # libav spends the first of these twice: to connect, and to learn the stream.
        limits = (self._timeout_s / 2, self._timeout_s)
        began = time.monotonic()
        try:
            self._container = av.open(
                self._uri, options=options, timeout=limits, metadata_errors="replace"
            )
        except av.error.FFmpegError as exc:
            problem = self._why(exc, time.monotonic() - began, limits[0])
        else:
            return VideoStream(self._container, self.name)
        # Outside of `except`: libav's exception holds the URI, and a chained one is printed.
        raise SourceUnavailable(f"{self.name} cannot be opened: {problem}")

    def _read(self, packets: Iterator[Any]) -> Any:
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
        except av.error.FFmpegError as exc:
            problem = self._why(exc, time.monotonic() - began, self._timeout_s)
        raise SourceStalled(f"{self.name} stopped: {problem}")

    def _why(self, exc: Any, waited_s: float, limit_s: float) -> str:
        import av

        if isinstance(exc, av.error.HTTPUnauthorizedError):
            return "authentication failed (401); check user and password"
        # At a timeout libav says "exit requested" or "invalid data".
        if isinstance(exc, av.error.ExitError) or waited_s >= limit_s:
            return f"no answer within {limit_s:g} s"
        hint = ""
        if isinstance(exc, av.error.OSError):  # all that libav says of a name or a certificate
            hint = "; is the host name right?"
            if self._uri.startswith("rtsps:"):
                hint = "; is the certificate trusted here (SSL_CERT_FILE), and for this host name?"
        return scrub(f"{exc.strerror}{hint}", self._uri)

    def _hang_up(self) -> None:
        if self._container is not None:
            self._container.close()
