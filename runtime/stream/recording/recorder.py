"""Write down what a stream sees and decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, get_args

from PIL import Image

import edgevlm
from edgevlm.bundle import Manifest
from edgevlm.config import RunConfig
from edgevlm.errors import SinkError
from edgevlm.event import DropReason, FaultEvent, SummaryEvent
from edgevlm.frame import Frame, SourceFaultCode
from edgevlm.runtime.stream.recording.format import (
    DECISIONS,
    EVENTS,
    FRAMES,
    HEADER,
    Decision,
    Dropped,
    Gated,
    Header,
    Reported,
    Seen,
    picture_path,
)
from edgevlm.runtime.stream.sinks.base import Decision as FrameDecision
from edgevlm.runtime.stream.sinks.base import Told
from edgevlm.runtime.stream.sources.uri import redact

_OF_THE_SOURCE = get_args(SourceFaultCode)
PNG_LEVEL = 1  # of zlib: a frame must not wait for a smaller file


class Recorder:
    """Keeps one run in a folder: decisions as they fall, events as they are told.

    When the disk takes no more the recording ends, which is said once, and the run goes on.

    Args:
        folder: made here; must not hold a recording.
        config: of the run.
        manifest: of the bundle that answers.
        live: whether the source is.

    Raises:
        SinkError: the folder cannot be made or is not empty.
    """

    def __init__(self, folder: Path, config: RunConfig, manifest: Manifest, live: bool) -> None:
        self.name = f"record:{folder}"
        self._folder = folder
        self._told: Counter[DropReason] = Counter()
        self._failure: SinkError | None = None
        self._ended = False
        settings = config.model_dump(mode="json", exclude_unset=True, by_alias=True)
        settings["source"]["uri"] = redact(config.source.uri)
        header = Header(
            edgevlm=edgevlm.__version__,
            bundle_name=manifest.name,
            bundle_id=manifest.bundle_id,
            live=live,
            config=settings,
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise SinkError(f"--record {folder}: it is not empty; give a new folder")
            (folder / FRAMES).mkdir()
            (folder / HEADER).write_text(header.model_dump_json(indent=1) + "\n", "utf-8")
            self._decisions: BinaryIO = (folder / DECISIONS).open("wb", buffering=0)
            self._events: BinaryIO = (folder / EVENTS).open("wb", buffering=0)
        except OSError as exc:
            raise SinkError(f"--record {folder} cannot be written: {exc.strerror}") from exc

    def seen(
        self,
        frame: Frame,
        do: FrameDecision,
        dropped: Mapping[DropReason, int],
        asks: Sequence[int] = (),
    ) -> None:
        """A frame was answered, had its answer reused, or failed."""
        self._drops(dropped)
        if do != "reuse" and self._failure is None:
            self._picture(frame)
        self._decide(
            Seen(
                do=do,
                asks=tuple(asks),
                index=frame.index,
                size_wh=frame.pixels.size_wh,
                captured_ns=frame.captured_ns,
                monotonic_ns=frame.monotonic_ns,
                media_s=frame.media_s,
                clock=frame.clock,
                frame_id=frame.frame_id,
            )
        )

    def _drops(self, dropped: Mapping[DropReason, int]) -> None:
        for reason, count in dropped.items():
            if new := count - self._told[reason]:
                self._decide(Dropped(reason=reason, count=new))
                self._told[reason] = count

    def _picture(self, frame: Frame) -> None:
        path = picture_path(self._folder, frame.index)
        try:
            Image.fromarray(frame.pixels.rgb()).save(path, compress_level=PNG_LEVEL)
        except OSError as exc:
            path.unlink(missing_ok=True)
            self._fail(exc)

    def _decide(self, decision: Decision) -> None:
        self._line(self._decisions, decision.model_dump_json())

    def _line(self, file: BinaryIO, text: str) -> None:
        if self._failure is not None:
            return
        line = text.encode() + b"\n"
        try:
            if file.write(line) != len(line):
                raise OSError("no space left")
        except OSError as exc:
            self._fail(exc)

    def _fail(self, error: OSError) -> None:
        if self._failure is None:
            self._failure = SinkError(f"{self.name}: the recording ends here: {error}")

    def write(self, told: Told) -> None:
        """Keep one event.

        Raises:
            SinkError: the disk takes no more; said once.
        """
        event = told.event
        if isinstance(event, FaultEvent) and event.code in _OF_THE_SOURCE:
            self._decide(Reported.model_validate({"code": event.code, "message": event.message}))
        elif isinstance(event, SummaryEvent):
            self._drops(event.frames.dropped)
            for gates in event.gates.values():
                self._decide(Gated(gates=gates))
        self._line(self._events, event.model_dump_json())
        if self._failure is not None and not self._ended:
            self._ended = True
            raise self._failure

    def close(self) -> None:
        """Close the files; may be called twice."""
        self._decisions.close()
        self._events.close()
