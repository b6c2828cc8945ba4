"""A bounded spool on disk between a live source and the model: every frame, in order, once.

Pixels lie in one file without a name, so that nothing stays behind however the process ends; what
is said of them stays in memory. The room is taken at the start, so the disk cannot fill up under a
running stream. When it is used up ``put`` waits: that holds the source back. A network camera over
TCP waits then; a device or a datagram source drops frames where nobody can count them, which is
why the wait is reported (``spool_full``). Frames in the spool do not survive the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgevlm.errors import ConfigError, SourceError
from edgevlm.frame import Frame, FrameItem, Pixels, SourceFault
from edgevlm.runtime.stream.handover import WAKE_S
from edgevlm.runtime.stream.spill import spill

ENTRIES = 65536  # frames that cannot be decoded take no room in the file, and are bounded too


@dataclass(slots=True)
class _Entry:
    item: FrameItem  # a frame stands here without its pixels
    offset: int
    size: int
    restore: Callable[[bytes], Pixels] | None


@dataclass(frozen=True, slots=True)
class _NoPixels:
    """Stands for pixels that lie in the file."""

    size_wh: tuple[int, int]


class Spool:
    """Keeps frames on disk in the order they came. One writer, one reader.

    Args:
        folder: where the file is made; should be a disk and not memory.
        megabytes: of 10^6 bytes, taken at once.

    Raises:
        ConfigError: the folder cannot be written, or holds less than that.
    """

    every = True

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.capacity = megabytes * 1_000_000
        self._file = _anonymous(folder, self.capacity)
        self._closer = weakref.finalize(self, os.close, self._file)
        self._entries: deque[_Entry] = deque()
        self._write = 0  # where the next frame goes, if there is room
        self._change = threading.Condition()
        self._open = True
        self._error: BaseException | None = None

    def put(self, item: FrameItem) -> bool:
        """Write an item, after waiting for room; False once the reader has closed.

        Raises:
            SourceError: a frame that is larger than the spool, or a disk that fails.
        """
        if not isinstance(item, Frame):
            return self._append(_Entry(item, 0, 0, None))
        buffers, restore = spill(item.pixels)
        size = sum(b.nbytes for b in buffers)
        if size > self.capacity:
            raise SourceError(
                f"a frame of {size / 1e6:.1f} MB does not fit the spool of "
                f"{self.capacity / 1e6:g} MB; raise policy.spool_mb"
            )
        stub = replace(item, pixels=_NoPixels(item.pixels.size_wh))  # type: ignore[arg-type]
        offset = self._room(size)
        if offset is None:
            return False
        try:
            _write(self._file, buffers, offset)
        except OSError as exc:
            raise SourceError(f"the spool cannot be written: {exc.strerror}") from exc
        return self._append(_Entry(stub, offset, size, restore))

    def close(self, error: BaseException | None = None) -> None:
        """End the hand-over; legal in every state, from both sides. The first error stands."""
        with self._change:
            if self._open:
                self._open, self._error = False, error
            self._change.notify_all()

    def items(self, stopped: Callable[[], bool]) -> Iterator[FrameItem]:
        """Wait for items until ``stopped``, or until the writer has ended and none is left.

        Raises:
            SourceError: the disk fails.
            BaseException: the error that ended the writer.
        """
        while not stopped():
            with self._change:
                if not self._entries and self._open:
                    self._wait()
                if not self._entries:
                    if self._open:
                        continue
                    break
                entry = self._entries[0]
            item = self._read(entry)  # its room is given back afterwards
            with self._change:
                self._entries.popleft()
                self._change.notify_all()
            yield item
        if self._error is not None and not stopped():
            raise self._error

    def newest(self) -> None:
        """Nothing is superseded here."""

    def take_newest(self, fits: Callable[[FrameItem], bool]) -> None:
        """Nothing is passed over here."""

    def take_superseded(self) -> int:
        """Nothing is pushed out."""
        return 0

    def take_left(self) -> int:
        """Empty the spool and say how many frames lay in it."""
        with self._change:
            count = sum(not isinstance(e.item, SourceFault) for e in self._entries)
            self._entries.clear()
            self._change.notify_all()
            return count

    def _append(self, entry: _Entry) -> bool:
        with self._change:
            while self._open and len(self._entries) >= ENTRIES:
                self._wait()
            if self._open:
                self._entries.append(entry)
                self._write = entry.offset + entry.size if entry.size else self._write
                self._change.notify_all()
            return self._open

    def _room(self, size: int) -> int | None:
        """Offset of ``size`` free bytes, after waiting for them; None once closed."""
        with self._change:
            said = False
            while self._open:
                offset = self._free(size)
                if offset is not None:
                    return offset
                if not said:
                    said = True
                    megabytes = f"{self.capacity / 1e6:g} MB"
                    fault = SourceFault(
                        code="spool_full",
                        message=f"the spool of {megabytes} is full: the source is held back until "
                        "frames are answered",
                    )
                    self._entries.append(_Entry(fault, 0, 0, None))
                self._wait()
            return None

    def _free(self, size: int) -> int | None:
        oldest = next((e.offset for e in self._entries if e.size), None)
        if oldest is None:
            return 0
        if self._write > oldest:  # free: behind the newest, and before the oldest
            if self.capacity - self._write >= size:
                return self._write
            return 0 if size < oldest else None
        return self._write if oldest - self._write > size else None

    def _read(self, entry: _Entry) -> FrameItem:
        if entry.restore is None or not isinstance(entry.item, Frame):
            return entry.item
        try:
            data = os.pread(self._file, entry.size, entry.offset)
        except OSError as exc:
            raise SourceError(f"the spool cannot be read: {exc.strerror}") from exc
        return replace(entry.item, pixels=entry.restore(data))

    def _wait(self) -> None:
        self._change.wait(WAKE_S)


def _anonymous(folder: Path, size: int) -> int:
    """A file of ``size`` bytes without a name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(prefix="spool-", dir=folder)
    except OSError as exc:
        raise ConfigError(f"no spool can be made in {folder}: {exc.strerror}") from exc
    try:
        os.unlink(name)  # noqa: PTH108 - mkstemp gives text
        os.posix_fallocate(file, 0, size)
    except OSError as exc:
        os.close(file)
        raise ConfigError(
            f"a spool of {size / 1e6:g} MB does not fit {folder}: {exc.strerror}; give a smaller "
            "policy.spool_mb or another policy.spool_dir"
        ) from exc
    return file


def _write(file: int, buffers: list[memoryview], offset: int) -> None:
    for buffer in buffers:
        left = buffer.cast("B")
        while left:
            done = os.pwrite(file, left, offset)
            offset += done
            left = left[done:]
