"""An MCAP file, read from its beginning without its index, as far as it goes.

A recording that a power cut ended has no index; a chunk whose checksum fails is skipped and
reported with the time it covers. https://mcap.dev/spec
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgevlm.errors import SourceUnavailable
from edgevlm.runtime.stream.sources.recorded import Damage, Message, Recorded, is_image, type_of

LARGEST_CHUNK = 256 << 20  # bytes, unpacked; recorders write 1 to 4 MB


class McapFile:
    """Messages of one MCAP file.

    Raises:
        SourceUnavailable: missing, empty or no MCAP file, or the reader is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import mcap.stream_reader  # noqa: F401
        except ImportError as exc:
            raise SourceUnavailable(
                f"{path} needs the readers of robot logs; pip install 'edgevlm[ros]'"
            ) from exc
        self._path = path
        try:
            with path.open("rb") as file:
                magic = file.read(8)
                self._size = path.stat().st_size
        except OSError as exc:
            raise SourceUnavailable(f"{path} cannot be read: {exc.strerror}") from exc
        if magic != b"\x89MCAP0\r\n":
            what = "is empty (0 bytes)" if not magic else "is no MCAP file"
            raise SourceUnavailable(f"{path} {what}")

    def topics(self) -> Mapping[str, str] | None:
        """Type by topic, of the index at the end of the file."""
        from mcap.reader import make_reader

        try:
            with self._path.open("rb") as file:
                summary = make_reader(file).get_summary()
        except Exception:  # whatever a damaged index provokes: the messages may be whole
            return None
        if summary is None or not summary.channels:
            return None
        return {c.topic: _type(c, summary.schemas) for c in summary.channels.values()}

    def messages(self, topic: str | None, seen: dict[str, str]) -> Iterator[Recorded]:
        """As ``Recording`` says."""
        from mcap.records import Channel, Schema
        from mcap.records import Message as Record

        schemas: dict[int, Any] = {}
        channels: dict[int, Any] = {}
        for record in self._records():
            if isinstance(record, Damage):
                yield record
            elif isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                channels[record.id] = record
                kind = seen[record.topic] = _type(record, schemas)
                if topic is None and is_image(kind):
                    topic = record.topic
            elif isinstance(record, Record) and record.channel_id in channels:
                channel = channels[record.channel_id]
                if channel.topic == topic:
                    yield Message(
                        log_ns=record.log_time,
                        type_name=seen[channel.topic],
                        encoding=channel.message_encoding,
                        data=record.data,
                        sequence=record.sequence,
                    )

    def _records(self) -> Iterator[Any]:
        """Every record, those of chunks too, with a Damage for what cannot be read."""
        from mcap.records import Chunk
        from mcap.stream_reader import StreamReader

        with self._path.open("rb") as file:
            records = StreamReader(file, emit_chunks=True, record_size_limit=self._size).records
            while True:
                at = file.tell()
                try:
                    record = next(records, None)
                except Exception as exc:  # the library raises whatever the bytes provoke
                    yield Damage(
                        f"{self._path} cannot be read on at byte {at} of {self._size} "
                        f"({_words(exc)}); what lies before has been read"
                    )
                    return
                if record is None:
                    return
                if not isinstance(record, Chunk):
                    yield record
                    continue
                try:
                    unpacked = _unpacked(record)
                except Exception as exc:  # likewise
                    begin_s, end_s = record.message_start_time / 1e9, record.message_end_time / 1e9
                    yield Damage(
                        f"{self._path}: a chunk at byte {at}, {begin_s:.3f} s to {end_s:.3f} s, "
                        f"is lost ({_words(exc)})"
                    )
                else:
                    yield from unpacked


def _words(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__


def _type(channel: Any, schemas: Mapping[int, Any]) -> str:
    schema = schemas.get(channel.schema_id)
    return type_of(schema.name) if schema is not None else "unknown"


def _unpacked(chunk: Any) -> list[Any]:
    """The records of a chunk.

    Raises:
        ValueError: it is larger than it says or than the cap, or its checksum fails.
    """
    from mcap.records import Chunk
    from mcap.stream_reader import breakup_chunk

    size = chunk.uncompressed_size
    if size > LARGEST_CHUNK:
        raise ValueError(f"it unpacks to {size} bytes, the cap is {LARGEST_CHUNK}")
    data = _decompressed(chunk.compression, chunk.data, size)
    if len(data) != size:
        raise ValueError(f"it unpacks to another size than {size} bytes")
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise ValueError("its checksum fails")
    plain = Chunk(
        compression="",
        data=data,
        message_start_time=chunk.message_start_time,
        message_end_time=chunk.message_end_time,
        uncompressed_crc=0,
        uncompressed_size=size,
    )
    return list(breakup_chunk(plain))


def _decompressed(compression: str, data: bytes, size: int) -> bytes:
    """At most ``size + 1`` bytes, whatever the data says of itself."""
    if compression == "zstd":
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
            return bytes(stream.read(size + 1))
    if compression == "lz4":
        import lz4.frame

        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1))
    if compression:
        raise ValueError(f"unknown compression {compression!r}")
    return data
