"""Frame sources: cameras, network cameras, video files, images, and synthetic scenes."""

from __future__ import annotations

import glob
from functools import partial
from pathlib import Path

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.frame import FrameSource
from edgevlm.registry import SOURCES
from edgevlm.runtime.model.image import SUFFIXES
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.camera import CameraSource, plugged
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.reconnect import ReconnectingSource
from edgevlm.runtime.stream.sources.uri import KNOWN, redact, scheme_of

_KINDS = {
    "v4l2": "v4l2",
    "csi": "csi",
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "mcap": "mcap",
    "rosbag2": "rosbag2",
    "ros2": "ros2",
    "gst": "gst",
    "synthetic": "synthetic",
}
_CONNECTED = ("csi", "rtsp", "http", "ros2", "gst")
_LIVE = ("v4l2", *_CONNECTED)

__all__ = ["open_source"]


def open_source(
    uri: str,
    *,
    realtime: bool = False,
    reconnect: bool = True,
    timeout_s: float = 10.0,
    clock: Clock = SYSTEM,
) -> FrameSource:
    """The source that ``uri`` names, out of a closed list of schemes (``docs/sources.md``).

    Args:
        uri: as ``edgevlm list sources`` shows them, or the path of a folder, a glob of images, an
            image or a video file. A file whose name looks like a scheme is written ``./name``.
        realtime: deliver recorded frames at the pace of their time stamps.
        reconnect: connect a live source again when it fails, and wait for one that is not there.
        timeout_s: how long a network source may stay silent before it counts as stalled.
        clock: stamps frames and is waited on for the pace.

    Raises:
        ConfigError: an unknown scheme, bad options, or ``realtime`` with a live source.
        SourceUnavailable: it is not there, or cannot be opened.
    """
    kind = _kind(uri)
    make = SOURCES.resolve(kind)
    source: FrameSource
    if kind not in _LIVE:
        source = make(uri, realtime=realtime, clock=clock)
        return source
    if realtime:
        raise ConfigError(f"{redact(uri)} is live already; realtime is for recorded sources")
    if kind == "v4l2":
        return plugged(uri, clock) if reconnect else CameraSource(uri, clock)
    first: FrameSource = make(uri, clock=clock, timeout_s=timeout_s)
    if not reconnect:
        return first
    first.close()  # it was made to see whether the URI can be used
    watch = FormatWatch(first.name)
    connect = partial(make, uri, clock=clock, timeout_s=timeout_s, watch=watch)
    return ReconnectingSource(first.name, connect, clock)


def _kind(uri: str) -> str:
    if not uri:
        raise ConfigError(f"the source is empty; a source is {KNOWN}")
    if uri.isdecimal() and uri.isascii():
        return "v4l2"
    if (scheme := scheme_of(uri)) is not None:
        return _KINDS[scheme]
    path = Path(uri)
    try:
        if path.is_dir():
            return "images"
        if path.is_file():
            return "images" if path.suffix.lower() in SUFFIXES else "file"
        there = path.exists()
    except OSError as exc:
        raise SourceUnavailable(f"{redact(uri)} cannot be read: {exc.strerror}") from exc
    if there:
        raise SourceUnavailable(f"{redact(uri)} is not a regular file or a folder")
    if glob.has_magic(uri):
        return "images"
    raise SourceUnavailable(f"{redact(uri)} does not exist")
