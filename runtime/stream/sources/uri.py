"""Source URIs: which kind of source they name, and how to print them without credentials."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from edgevlm.errors import ConfigError

SCHEMES = (
    "v4l2", "csi", "rtsp", "rtsps", "http", "https", "mcap", "rosbag2", "ros2", "gst", "synthetic",
)  # fmt: skip
KNOWN = (
    "0 or v4l2:///dev/video0, csi://0, rtsp://, rtsps://, http://, https://, "
    "mcap:FILE?topic=..., rosbag2:DIR?topic=..., ros2:/TOPIC, gst:PIPELINE, synthetic:, "
    "or the path of a video file, an image, a folder or a glob of images"
)
MASK = "***"

# One letter is a Windows drive, not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[\w.~-]+)(?::(\d{1,5}))?(?=[/?#]|$)")
_VALUE = re.compile(r"=[^&/?#]+")


def scheme_of(uri: str) -> str | None:
    """The scheme of ``uri`` in lower case; None for a bare number or a path.

    Raises:
        ConfigError: a scheme outside the closed list, which the message gives.
    """
    match = _SCHEME.match(uri)
    if match is None:
        return None
    if (scheme := match[1].lower()) in SCHEMES:
        return scheme
    # Of "user:password@host" what looks like a scheme is the user.
    shown = f"{scheme}:" if "@" not in uri or "://" in uri else MASK
    raise ConfigError(f"unknown source scheme {shown!r}; a source is {KNOWN}")


def redact(uri: str) -> str:
    """``uri`` as it may be printed: no user, no password, no value of a query or path option.

    A raw ``@ : / # ?`` in a password makes a URI ambiguous, so everything up to the last ``@``
    goes, at the price of the host where an ``@`` stands in the path. Paths come back unchanged.
    """
    head, separator, rest = uri.partition("://")
    if not separator:
        user, at, host = uri.rpartition("@")
        return f"{MASK}@{host}" if at and ":" in user else uri
    _, at, tail = rest.rpartition("@")
    authority = re.match(r"[^/?#]*", tail)
    cut = authority.end() if authority else 0
    options = _VALUE.sub(f"={MASK}", tail[cut:])
    return f"{head}://{MASK if at else ''}{at}{tail[:cut]}{options}"


def scrub(text: str, uri: str) -> str:
    """``text`` without ``uri`` and its credentials, in whatever spelling a library printed them."""
    for spelling in (uri, _respelled(uri)):
        text = text.replace(spelling, redact(uri))
    credentials, _, _ = _split(uri.partition("://")[2])
    for secret in sorted({credentials, *credentials.split(":", 1)}, key=len, reverse=True):
        raw = unquote_to_bytes(secret)
        for spelling in (secret, raw.decode("utf-8", "replace"), quote(raw, safe="")):
            if spelling:
                text = text.replace(spelling, MASK)
    return text


def dialled(uri: str) -> str:
    """A network URI in the spelling libav parses: credentials percent-encoded, host checked.

    Raises:
        ConfigError: no host, a bad port, or a control character.
    """
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in uri):
        raise ConfigError("a source URI must not hold control characters")
    _, host, _ = _split(uri.partition("://")[2])
    match = _HOST.fullmatch(host)
    if match is None or int(match[1] or 0) > 65535:
        raise ConfigError(
            f"{redact(uri)} has no valid host[:port]; "
            "in a password write / ? # @ as %2F %3F %23 %40"
        )
    return _respelled(uri)


def _respelled(uri: str) -> str:
    head, separator, rest = uri.partition("://")
    credentials, host, tail = _split(rest)
    encoded = ":".join(quote(unquote_to_bytes(p), safe="") for p in credentials.split(":", 1))
    return f"{head.lower()}{separator}{encoded}{'@' if credentials else ''}{host}{tail}"


def _split(rest: str) -> tuple[str, str, str]:
    """Credentials, host[:port] and what follows; the reading of RFC 3986 first.

    Where that gives no valid host, the password held a raw ``/ ? #`` and the last ``@`` ends it.
    """
    authority = re.match(r"[^/?#]*", rest)
    for at in (authority[0].rfind("@") if authority else -1, rest.rfind("@")):
        if match := _HOST.match(rest, at + 1):
            return rest[: max(at, 0)], match[0], rest[match.end() :]
    return "", "", rest
