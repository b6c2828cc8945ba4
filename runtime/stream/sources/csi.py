"""A camera on the CSI connector: GStreamer's elements of the board, scaled by its ISP.

The pipelines follow NVIDIA's and libcamera's documentation; they have not been run on a board here.
"""

from __future__ import annotations

import re
from typing import Any

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.runtime.stream.clock import SYSTEM, Clock
from edgevlm.runtime.stream.sources.format_watch import FormatWatch
from edgevlm.runtime.stream.sources.gst import GstSource, bindings
from edgevlm.runtime.stream.sources.uri import redact

_URI = re.compile(
    r"csi://(?P<sensor>\d{1,2})(?:\?(?=.)(?:size=(?P<w>\d{2,4})x(?P<h>\d{2,4}))?"
    r"(?:&?fps=(?P<fps>\d{1,3}))?)?",
    re.IGNORECASE,
)
APPSINK = "appsink max-buffers=2 drop=true sync=false"  # the newest pictures


class CsiSource(GstSource):
    """One run of a CSI camera.

    Args:
        uri: ``csi://0?size=1280x720&fps=30``, the options in this order and optional.
        clock: as in ``GstSource``, whose errors it raises.
        timeout_s: likewise.
        watch: likewise.

    Raises:
        ConfigError: another form of URI.
        SourceUnavailable: this machine has no element for CSI cameras.
    """

    def __init__(
        self,
        uri: str,
        clock: Clock = SYSTEM,
        timeout_s: float = 10.0,
        watch: FormatWatch | None = None,
    ) -> None:
        pipelines = pipelines_of(uri)
        gst, _ = bindings()
        super().__init__(f"gst:{_chosen(gst, pipelines)}", clock, timeout_s, watch)
        self.name = uri.partition("?")[0]


def pipelines_of(uri: str) -> dict[str, str]:
    """The pipeline by the element that reads the camera, in the order they are tried.

    Raises:
        ConfigError: another form of URI.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ConfigError(f"a CSI camera is csi://0?size=1280x720&fps=30, got {redact(uri)!r}")
    size = f"width={match['w'] or 1280},height={match['h'] or 720}"
    rate = f"framerate={match['fps'] or 30}/1"
    pipelines = {
        # The sensor's picture stays in the ISP's memory until nvvidconv has scaled it.
        "nvarguscamerasrc": (
            f"nvarguscamerasrc sensor-id={int(match['sensor'])} ! "
            f"video/x-raw(memory:NVMM),format=NV12,{rate} ! nvvidconv ! "
            f"video/x-raw,format=NV12,{size} ! {APPSINK}"
        )
    }
    if int(match["sensor"]) == 0:  # libcamera has names and no numbers
        pipelines["libcamerasrc"] = (
            f"libcamerasrc ! video/x-raw,format=NV12,{size},{rate} ! {APPSINK}"
        )
    return pipelines


def _chosen(gst: Any, pipelines: dict[str, str]) -> str:
    for element, pipeline in pipelines.items():
        if gst.ElementFactory.find(element) is not None:
            return pipeline
    raise SourceUnavailable(
        f"no element for CSI cameras is here ({' or '.join(pipelines)}): on a Jetson install "
        "nvidia-l4t-gstreamer, on a Raspberry Pi gstreamer1.0-libcamera"
    )
