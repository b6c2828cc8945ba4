"""A rosbag2 folder: MCAP or SQLite files, in the order its metadata says or their names do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgevlm.errors import SourceUnavailable
from edgevlm.runtime.stream.sources.images import natural_key
from edgevlm.runtime.stream.sources.mcap_file import McapFile
from edgevlm.runtime.stream.sources.recorded import Damage, Message, Recorded, is_image, type_of


class Rosbag2:
    """Messages of all files of a bag.

    Raises:
        SourceUnavailable: no such folder, no file of messages in it, or compressed files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise SourceUnavailable(f"{folder} {what}")
        self._problem, self._paths = _files(folder)
        if not self._paths:
            packed = [p.name for p in folder.glob("*.zstd")]
            hint = f"; unpack {packed[0]} with `zstd -d` first" if packed else ""
            raise SourceUnavailable(f"{folder} holds no .mcap or .db3 file{hint}")

    def topics(self) -> Mapping[str, str] | None:
        """Type by topic over all files; None if one has no index."""
        found: dict[str, str] = {}
        for path in self._paths:
            try:
                topics = _open(path).topics()
            except SourceUnavailable:
                return None
            if topics is None:
                return None
            found |= topics
        return found

    def messages(self, topic: str | None, seen: dict[str, str]) -> Iterator[Recorded]:
        """As ``Recording`` says."""
        if self._problem:
            yield Damage(self._problem)
        for path in self._paths:
            try:
                file = _open(path)
            except SourceUnavailable as exc:
                yield Damage(str(exc))
                continue
            yield from file.messages(topic, seen)
            if topic is None:
                topic = next((t for t, kind in seen.items() if is_image(kind)), None)


class SqliteFile:
    """Messages of one ``.db3`` file of rosbag2."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def topics(self) -> Mapping[str, str] | None:
        """Type by topic."""
        try:
            with closing(self._connect()) as database:
                return {name: kind for _, name, kind, _ in _topics(database)}
        except sqlite3.Error:
            return None

    def messages(self, topic: str | None, seen: dict[str, str]) -> Iterator[Recorded]:
        """As ``Recording`` says."""
        count = 0
        try:
            with closing(self._connect()) as database:
                rows = _topics(database)
                seen |= {name: kind for _, name, kind, _ in rows}
                for number, name, kind, encoding in rows:
                    if name == topic or (topic is None and is_image(kind)):
                        # In the order of writing, which needs no index that may be damaged.
                        query = (
                            "SELECT id, timestamp, data FROM messages WHERE topic_id=? ORDER BY id"
                        )
                        for sequence, log_ns, data in database.execute(query, (number,)):
                            yield Message(log_ns, kind, encoding, bytes(data), sequence)
                            count += 1
                        return
        except (sqlite3.Error, TypeError) as exc:
            yield Damage(f"{self._path} cannot be read on after {count} messages ({exc})")

    def _connect(self) -> sqlite3.Connection:
        # A log beside the file, left by a crash, holds the last messages: not `immutable`.
        place = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        return sqlite3.connect(place, uri=True, check_same_thread=False)


def _topics(database: sqlite3.Connection) -> list[tuple[int, str, str, str]]:
    query = "SELECT id, name, type, serialization_format FROM topics"
    return [(i, str(n), type_of(str(k)), str(f)) for i, n, k, f in database.execute(query)]


def _open(path: Path) -> McapFile | SqliteFile:
    return McapFile(path) if path.suffix == ".mcap" else SqliteFile(path)


def _files(folder: Path) -> tuple[str, list[Path]]:
    """What is wrong with the metadata, and the files of the bag in order."""
    there = sorted((*folder.glob("*.mcap"), *folder.glob("*.db3")), key=natural_key)
    path = folder / "metadata.yaml"
    try:
        from ruamel.yaml import YAML

        about: Any = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
        about = about["rosbag2_bagfile_information"]
        names = about["relative_file_paths"]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a path that is no text")  # or an alias that unfolds without end
        named = [folder / Path(name).name for name in names]
        mode = str(about.get("compression_mode", "")).lower()
    except ImportError as exc:
        raise SourceUnavailable(
            f"{folder} needs the readers of robot logs; pip install 'edgevlm[ros]'"
        ) from exc
    except Exception as exc:  # absent after a power cut, or damaged
        return f"{path} cannot be read ({type(exc).__name__}); files are taken by name", there
    if mode == "message":
        raise SourceUnavailable(
            f"{folder} holds messages that are compressed one by one; rewrite it with "
            "`ros2 bag convert` without compression"
        )
    missing = [p.name for p in named if p not in there]
    problem = f"{folder} lacks {', '.join(missing)}" if missing else ""
    return problem, [p for p in named if p in there]
