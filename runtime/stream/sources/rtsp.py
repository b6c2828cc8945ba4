"""A network camera over RTSP."""

from __future__ import annotations

import re

from edgevlm.errors import SourceUnavailable
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.network import NetworkSource, checked_certificates

CHECKS_CERTIFICATES = (62, 0, 0)  # libavformat of FFmpeg 8; before, RTSP drops `tls_verify`
_TRANSPORT = re.compile(r"#transport=(tcp|udp)$")


class RtspSource(NetworkSource):
    """One connection to an RTSP camera, over TCP unless the URI ends in ``#transport=udp``.

    Of ``rtsps`` the certificate and the host name are checked. Over UDP packets get lost; the
    pictures that refer to a lost one become BadFrames, up to the next key frame.

    Args:
        uri: ``rtsp://[user:password@]host[:port]/path`` or ``rtsps://``.
        clock: as in ``NetworkSource``, whose errors it raises.
        timeout_s: likewise.
        watch: likewise.
    """

    schemes = ("rtsp://", "rtsps://")

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        asked = _TRANSPORT.search(uri)
        self._transport = asked[1] if asked else "tcp"
        super().__init__(_TRANSPORT.sub("", uri), clock, timeout_s, watch)

    def options(self) -> dict[str, str]:
        """How libav dials.

        Raises:
            SourceUnavailable: ``rtsps`` with a libav that checks no certificates.
        """
        import av

        options = {
            "rtsp_transport": self._transport,
            "allowed_media_types": "video",  # sound would keep a read alive without pictures
            "protocol_whitelist": "rtsp,rtp,tcp",
            "fpsprobesize": "0",  # the first picture after 0.3 s, where libav's guess takes 1.1
            "analyzeduration": "500000",
        }
        if self._transport == "udp":
            options["protocol_whitelist"] += ",udp"
        if self._uri.startswith("rtsps:"):
            if av.library_versions["libavformat"] < CHECKS_CERTIFICATES:
                raise SourceUnavailable(
                    f"{self.name}: this libav checks no certificates; pip install 'av>=16'"
                )
            options["protocol_whitelist"] += ",tls"
            options |= checked_certificates()
        return options
