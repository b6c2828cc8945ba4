"""A GStreamer pipeline that ends in an appsink, run inside this process.

A pipeline is a small program: it comes from the local command line or a config file, and never
from a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgevlm.errors import ConfigError, ImageError, SourceStalled, SourceUnavailable
from edgevlm.frame import BadFrame, FrameItem
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.arrival import Timeline, arrived
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.gst_pixels import CAPS, pixels_of
from edgevlm.runtime.stream.sources.native import Native

REMEDY = (
    "GStreamer's Python bindings (module gi) are not here: apt-get install python3-gi "
    "gir1.2-gst-plugins-base-1.0, and make the virtual environment with the system's own python3 "
    "and --system-site-packages"
)
SLICE_S = 0.1  # the longest wait inside GStreamer, so that close() is noticed
STEP_S = 1 / 30  # between pictures without stamps
QUEUE = 4  # pictures an appsink holds where the pipeline does not say


class GstSource:
    """The pictures that reach the one appsink of a pipeline.

    A pipeline with a live source that ends or stays silent has stalled; another one just ends.

    Args:
        uri: ``gst:PIPELINE ! appsink``, as ``gst-launch-1.0`` takes it.
        clock: stamps frames.
        timeout_s: how long it may stay silent, from the start on.
        watch: told of every picture's format; one of its own when None.

    Raises:
        ConfigError: no pipeline, a syntax error, or not exactly one appsink.
        SourceUnavailable: no GStreamer for Python here, or an element that is not installed.
    """

    live = True

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        text = uri.partition(":")[2].strip()
        if not text:
            raise ConfigError("a GStreamer source is gst:PIPELINE ! appsink")
        self.name = printable(text)
        self._secrets = _values(text)
        self._clock = clock
        self._timeout_s = timeout_s
        self._watch = watch or FormatWatch(self.name)
        self._gst, self._video = bindings()
        self._pipeline, self._sink = self._parse(text)
        self._native = Native(self._stop)

    def frames(self) -> Iterator[FrameItem]:
        """Start the pipeline, then yield frames as they come.

        Raises:
            SourceUnavailable: the pipeline does not start.
            SourceStalled: no picture for too long, an error on the way, or the end of a live one.
        """
        timeline = Timeline(STEP_S)
        index, waited_s = 0, 0.0
        try:
            ends = self._native.use(self._start)
            while (sample := self._native.use(self._pull)) is not None:
                if sample is False:
                    if self._native.use(lambda: bool(self._sink.get_property("eos"))):
                        if ends:
                            return
                        raise SourceStalled(f"{self.name} stopped: the live pipeline ended")
                    waited_s += SLICE_S
                    if waited_s >= self._timeout_s:
                        raise SourceStalled(
                            f"{self.name} stopped: no picture within {self._timeout_s:g} s"
                        )
                    continue
                waited_s = 0.0
                try:
                    pixels, layout = pixels_of(self._video, sample)
                except ImageError as exc:
                    yield BadFrame(index=index, reason=str(exc))
                else:
                    if fault := self._watch.fault(pixels.size_wh, layout):
                        yield fault
                    stamp = sample.get_buffer().pts
                    known = stamp != self._gst.CLOCK_TIME_NONE
                    media_s = timeline.at(stamp / 1e9 if known else None)
                    if fault := timeline.jumped(self.name):
                        yield fault
                    yield arrived(self._clock, index, pixels, media_s)
                index += 1
        finally:
            self.close()

    def close(self) -> None:
        """Stop the pipeline; a wait under way ends within ``SLICE_S``."""
        self._native.close()

    def _parse(self, text: str) -> tuple[Any, Any]:
        gst = self._gst
        problem = ""
        try:
            pipeline = gst.parse_launch(text)
        except Exception as exc:  # GLib.Error, which only exists with gi
            problem = self._scrubbed(getattr(exc, "message", str(exc)))
        # Outside of `except`: GStreamer's own error may hold what stands in the pipeline.
        if problem.startswith("no element") or "could not set property" in problem:
            raise SourceUnavailable(f"{self.name}: {problem}; `gst-inspect-1.0` lists what is here")
        if problem:
            raise ConfigError(f"{self.name} is no pipeline: {problem}")
        sinks: list[Any] = []
        if isinstance(pipeline, gst.Bin):
            iterator = pipeline.iterate_all_by_element_factory_name("appsink")
            while (found := iterator.next())[0] == gst.IteratorResult.OK:
                sinks.append(found[1])
        if len(sinks) != 1:
            raise ConfigError(f"{self.name} must have one appsink, it has {len(sinks)}")
        (sink,) = sinks
        if sink.get_property("caps") is None:
            sink.set_property("caps", gst.Caps.from_string(CAPS))
        if sink.get_property("max-buffers") == 0:
            sink.set_property("max-buffers", QUEUE)
        return pipeline, sink

    def _start(self) -> bool:
        """Play; True if the pipeline is one that ends."""
        gst = self._gst
        change = self._pipeline.set_state(gst.State.PAUSED)
        if change == gst.StateChangeReturn.ASYNC:
            change, _, _ = self._pipeline.get_state(round(self._timeout_s * 1e9))
        if change == gst.StateChangeReturn.FAILURE:
            raise SourceUnavailable(f"{self.name} does not start: {self._said()}")
        if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            raise SourceUnavailable(f"{self.name} does not start: {self._said()}")
        return bool(change == gst.StateChangeReturn.SUCCESS)

    def _pull(self) -> Any:
        """A sample; False if none came in ``SLICE_S``."""
        gst = self._gst
        sample = self._sink.emit("try-pull-sample", round(SLICE_S * 1e9))
        if sample is not None:
            return sample
        message = self._pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
        if message is not None:
            raise SourceStalled(f"{self.name} stopped: {self._words(message)}")
        return False

    def _said(self) -> str:
        bus = self._pipeline.get_bus()
        message = bus.timed_pop_filtered(round(SLICE_S * 1e9), self._gst.MessageType.ERROR)
        return "no reason given" if message is None else self._words(message)

    def _words(self, message: Any) -> str:
        error, debug = message.parse_error()
        hint = ""
        if "not-negotiated" in str(debug):
            hint = "; put videoconvert (on a Jetson nvvidconv) in front of appsink"
        return self._scrubbed(f"{error.message}{hint}")

    def _scrubbed(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())

    def _stop(self) -> None:
        self._pipeline.set_state(self._gst.State.NULL)


def bindings() -> tuple[Any, Any]:
    """GStreamer and its video library, ready to use.

    Raises:
        SourceUnavailable: they are not importable; the message says how they get here.
    """
    try:
        import gi

        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst, GstVideo
    except (ImportError, ValueError) as exc:
        raise SourceUnavailable(REMEDY) from exc
    if not Gst.is_initialized():
        Gst.init(None)
    return Gst, GstVideo


def printable(pipeline: str) -> str:
    """A pipeline's elements without their properties, which may hold credentials."""
    parts = [part.split() for part in pipeline.split("!")]
    return "gst:" + " ! ".join(part[0] for part in parts if part)


def _values(pipeline: str) -> list[str]:
    """Every value in a pipeline that names a place or could be a secret, longest first."""
    found = re.findall(r"[\w-]+=(\"[^\"]*\"|'[^']*'|\S+)", pipeline)
    values = {value.strip("\"'") for value in found}
    return sorted((v for v in values if len(v) > 3 and not v.isdecimal()), key=len, reverse=True)
