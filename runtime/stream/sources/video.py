"""A video file, decoded by libav through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevlm.errors import SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Pace, Timeline, arrived
from edgevlm.runtime.stream.sources.native import Native
from edgevlm.runtime.stream.sources.pixels import VideoPixels

FALLBACK_FPS = 25.0


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
        self._native = Native(self._container.close)
        try:
            self._stream = video_stream(self._container, self.name)
        except SourceUnavailable:
            self.close()
            raise
        self._packets = self._container.demux(self._stream)
        self._drained = False

    def frames(self) -> Iterator[Frame | BadFrame]:
        """Yield frames in order.

        Raises:
            SourceError: the file ended and not one frame could be decoded.
        """
        timeline = Timeline(step_s(self._stream))
        pace = Pace(self._clock, lambda: self._native.closed)
        index, bad = 0, 0
        try:
            while (pictures := self._native.use(self._step)) is not None:
                for picture in pictures:
                    if isinstance(picture, str):
                        bad += 1
                        yield BadFrame(index=index, reason=picture)
                    else:
                        media_s = timeline.at(stamp_s(picture, self._stream))
                        if self.live and not pace.wait(media_s):
                            return
                        yield arrived(self._clock, index, VideoPixels(picture), media_s)
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

    def _step(self) -> list[Any] | None:
        """Pictures, or reasons for bad ones, of the next packet; None at the end."""
        import av

        if self._drained:
            return None
        failed: list[Any] = []
        try:
            packet = next(self._packets, None)
        except av.error.FFmpegError as exc:
            packet, failed = None, [f"the file cannot be read on: {exc.strerror}"]
        if packet is not None:
            return decoded(self._stream, packet)
        self._drained = True
        return decoded(self._stream, None) + failed


def video_stream(container: Any, name: str) -> Any:
    """The first video stream of a container that is not a cover picture.

    Raises:
        SourceUnavailable: there is none, or libav has no decoder for it.
    """
    streams = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not streams:
        raise SourceUnavailable(f"{name} has no video stream")
    if streams[0].codec_context is None:
        raise SourceUnavailable(f"{name} needs a video decoder that this libav does not have")
    return streams[0]


def decoded(stream: Any, packet: Any | None) -> list[Any]:
    """The frames a packet completes, in place of a bad one the reason; of None, the last ones."""
    import av

    # An empty packet stands for a dropped frame, or for the end; libav would take it as the end.
    if packet is not None and not packet.size:
        return []
    try:
        frames = stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as exc:
        return [f"undecodable: {exc.strerror}"]
    return ["the decoder marked it corrupt" if f.is_corrupt else f for f in frames]


def step_s(stream: Any) -> float:
    """Seconds between two frames, as the stream declares it."""
    return 1.0 / float(stream.average_rate or stream.guessed_rate or FALLBACK_FPS)


def stamp_s(picture: Any, stream: Any) -> float | None:
    """Presentation time of a frame in seconds, where it has one."""
    # Not picture.time: frames that come out at the end carry no time base.
    return None if picture.pts is None else float(picture.pts * stream.time_base)


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
