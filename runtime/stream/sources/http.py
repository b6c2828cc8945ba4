"""A camera or a recording behind HTTP: Motion JPEG, HLS, or a file."""

from __future__ import annotations

from edgevlm.runtime.stream.sources.network import NetworkSource, checked_certificates


class HttpSource(NetworkSource):
    """One connection to what ``http://`` or ``https://`` names.

    Of ``https`` the certificate and the host name are checked; libav does not do so for the
    segments of an HLS playlist on another host. Nothing but HTTP is opened, whatever a playlist
    says. Motion JPEG has no time stamps: positions are those of arrival.
    """

    schemes = ("http://", "https://")
    may_end = True

    def options(self) -> dict[str, str]:
        """How libav dials."""
        return {
            "protocol_whitelist": "http,https,tcp,tls,hls,crypto,data",
            "analyzeduration": "500000",
            **checked_certificates(),
        }
