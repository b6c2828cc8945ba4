"""A video file, decoded by libav through PyAV."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from edgevlm.errors import SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, FrameItem
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Pace, Timeline, arrived
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.pixels import Orientation, VideoPixels
from edgevlm.runtime.stream.sources.resync import Resync

FALLBACK_FPS = 25.0
ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC


class VideoFileSource:
    """The frames of a video file in presentation order.

    A packet that cannot be decoded, or a frame the decoder marks corrupt, becomes a BadFrame and
    decoding goes on; so does an error of the container, after which the file ends.

    Args:
        path: a regular file.
        realtime: deliver at the pace of the time stamps, as a live source does.
        clock: stamps frames and is waited on for the pace.

    Raises:
        SourceUnavailable: missing, empty or unreadable, no video in it, or no decoder for it.
    """

    def __init__(self, path: str | Path, realtime: bool = False, clock: Clock = SYSTEM) -> None:
        self.name = str(path)
        self.live = realtime
        self._clock = clock
        self._container = _open(Path(path))
        try:
            self._stream = VideoStream(self._container, self.name)
        except SourceUnavailable:
            self._container.close()
            raise
        self._native = Native(self._release)
        self._drained = False

    def frames(self) -> Iterator[FrameItem]:
        """Yield frames in order.

        Raises:
            SourceError: the file ended and not one frame could be decoded.
        """
        timeline, watch = Timeline(self._stream.step_s), FormatWatch(self.name)
        pace = Pace(self._clock, lambda: self._native.closed)
        index, bad = 0, 0
        try:
            while (pictures := self._native.use(self._step)) is not None:
                for picture in pictures:
                    if isinstance(picture, str):
                        bad += 1
                        yield BadFrame(index=index, reason=picture)
                    else:
                        media_s = timeline.at(self._stream.stamp_s(picture))
                        if fault := timeline.jumped(self.name):
                            yield fault
                        if self.live and not pace.wait(media_s):
                            return
                        pixels = self._stream.pixels(picture)
                        if fault := watch.fault(pixels.size_wh, self._stream.layout(picture)):
                            yield fault
                        yield arrived(self._clock, index, pixels, media_s)
                    index += 1
                    if self._native.closed:
                        return
            if index == bad and not self._native.closed:
                raise SourceError(f"{self.name}: no video frame could be decoded")
        finally:
            self.close()

    def close(self) -> None:
        """Release the file."""
        self._native.close()

    def _release(self) -> None:
        self._stream.close()
        self._container.close()

    def _step(self) -> list[Any] | None:
        """Pictures, or reasons for bad ones, of the next packet; None at the end."""
        import av

        if self._drained:
            return None
        failed: list[Any] = []
        try:
            packet = next(self._stream.packets, None)
        except av.error.FFmpegError as exc:
            packet, failed = None, [f"the file cannot be read on: {exc.strerror}"]
        if packet is not None:
            return self._stream.decode(packet)
        self._drained = True
        return self._stream.decode(None) + failed


class VideoStream:
    """The first video stream of a container that is not a cover picture.

    What it declares is read once, here: libav frees it with the container, and PyAV would then
    read freed memory. ``packets`` and ``decode`` are for use while the container is open.

    Args:
        container: an open ``av`` container.
        name: what errors call it.

    Raises:
        SourceUnavailable: there is no video, or libav has no decoder for it.
    """

    def __init__(self, container: Any, name: str) -> None:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise SourceUnavailable(f"{name} has no video stream")
        if streams[0].codec_context is None:
            raise SourceUnavailable(f"{name} needs a video decoder that this libav does not have")
        self._codec = streams[0].codec_context
        self._codec_name = self._codec.name
        self._time_base = streams[0].time_base
        rate = streams[0].average_rate or streams[0].guessed_rate or FALLBACK_FPS
        self.step_s = 1.0 / float(rate)
        self.packets: Generator[Any, None, None] = container.demux(streams[0])
        self._orientation = Orientation()
        self._resync = Resync(self._codec, container.format.name)

    def close(self) -> None:
        """Let go of the packets; before the container is closed.

        PyAV's ``demux`` frees the packet that it reads into when it is closed or read to its end:
        one that is only dropped keeps it for good.
        """
        self.packets.close()

    def pixels(self, picture: Any) -> VideoPixels:
        """A decoded frame, upright."""
        return VideoPixels(picture, self._orientation.of(picture))

    def layout(self, picture: Any) -> str:
        """Pixel format and codec of a frame, as ``yuv420p of h264``."""
        return f"{picture.format.name} of {self._codec_name}"

    def decode(self, packet: Any | None) -> list[Any]:
        """The frames a packet completes, in place of a bad one the reason; of None, the last."""
        import av

        # An empty packet stands for a dropped frame, or for the end; libav takes it as the end.
        if packet is not None and not packet.size:
            return []
        if packet is not None:
            self._resync.sent(packet)
        try:
            frames = self._codec.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as exc:
            self._resync.damaged(packet)
            return [f"undecodable: {exc.strerror}"]
        return [self._resync.judge(f) or f for f in frames]

    def stamp_s(self, picture: Any) -> float | None:
        """Presentation time of a frame in seconds, where it has one."""
        # Not picture.time: frames that come out at the end carry no time base.
        return None if picture.pts is None else float(picture.pts * self._time_base)


def _is_cover(stream: Any) -> bool:
    flags = getattr(stream, "disposition", 0)  # PyAV 13 does not tell
    return bool(int(getattr(flags, "value", flags)) & ATTACHED_PICTURE)


def _open(path: Path) -> Any:
    import av

    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise SourceUnavailable(f"{path} {what}")
        if path.stat().st_size == 0:
            raise SourceUnavailable(f"{path} is empty (0 bytes)")
        # An absolute path has no protocol in front; the whitelist stops playlists in a file
        # from opening anything but files. Titles in another encoding must not stop a film.
        return av.open(
            str(path.absolute()),
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (OSError, av.error.FFmpegError) as exc:
        raise SourceUnavailable(f"{path} cannot be opened as video: {exc.strerror}") from exc
