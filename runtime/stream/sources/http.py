"""A camera or a recording behind HTTP: Motion JPEG, HLS, or a file."""

from __future__ import annotations

from edgevlm.errors import SourceUnavailable
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.network import NetworkSource, checked_certificates

UNCHECKED = "#segments=unchecked"


class HttpSource(NetworkSource):
    """One connection to what ``http://`` or ``https://`` names.

    Of ``https`` the certificate and the host name are checked. libav does so for a playlist but
    not for its segments, so HLS over ``https`` is read only if the URI ends in
    ``#segments=unchecked``. Nothing but HTTP is opened, whatever a playlist says. Motion JPEG has
    no time stamps: positions are those of arrival.

    Args:
        uri: ``http://[user:password@]host[:port]/path`` or ``https://``.
        clock: as in ``NetworkSource``, whose errors it raises.
        timeout_s: likewise.
        watch: likewise.
    """

    schemes = ("http://", "https://")
    may_end = True

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        self._unchecked = uri.endswith(UNCHECKED)
        super().__init__(uri.removesuffix(UNCHECKED), clock, timeout_s, watch)

    def options(self) -> dict[str, str]:
        """How libav dials."""
        return {
            "protocol_whitelist": "http,https,tcp,tls,hls,crypto,data",
            "analyzeduration": "500000",
            **checked_certificates(),
        }

    def check(self, container: str) -> None:
        """Refuse HLS over ``https``, unless its segments may go unchecked.

        Raises:
            SourceUnavailable: it is that.
        """
        if container.startswith("hls") and self._uri.startswith("https:") and not self._unchecked:
            raise SourceUnavailable(
                f"{self.name} is HLS, and libav checks no certificates of its segments; end the "
                f"URI in {UNCHECKED} to read it all the same"
            )
