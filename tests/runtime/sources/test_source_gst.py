"""Pipelines in Debian's GStreamer, and what is said where it is not."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.sources.csi import pipelines_of
from edgevlm.runtime.stream.sources.gst import printable
from edgevlm.runtime.stream.sources.gst_pixels import BAYER, LAYOUTS, PLANAR
from tests.conftest import ROOT, missing

PACKAGES = "python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base"
DEBIAN = Path("/usr/lib/python3/dist-packages/gi")


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Items of a pipeline, run by this Python with Debian's gi in its path and nothing else."""
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}-"
    if DEBIAN.is_dir() and not list(DEBIAN.glob(f"_gi.{tag}*.so")):
        pytest.skip("Debian's gi is for another version of Python")
    folder = tmp_path_factory.mktemp("gi")
    (folder / "gi").symlink_to(DEBIAN)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}"}

    def run(*uris, frames=-1, timeout_s=5.0):
        child = Path(__file__).with_name("gst_child.py")
        command = [sys.executable, str(child), str(frames), str(timeout_s), *uris]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return found if len(uris) > 1 else found[0]

    (*_, last) = run("gst:videotestsrc num-buffers=1 ! videoconvert ! appsink")
    if "error" in last:
        missing(f"GStreamer cannot be used from here: {last['message']} ({PACKAGES})")
    return run


def array(item, name):
    width, height = item["size_wh"]
    data = np.frombuffer(base64.b64decode(item[name]), np.uint8)
    return data.reshape(height, width, -1).squeeze()


BARS = "gst:videotestsrc num-buffers=1 pattern=smpte75 ! video/x-raw,width=162,height=122,format="
RED = "gst:videotestsrc num-buffers=1 pattern=red ! video/x-bayer,width=162,height=122,format="
FORMATS = [*PLANAR, *LAYOUTS]


@pytest.fixture(scope="module")
def shown(play):
    """The items of a scene in every format: by name, out of one process."""
    uris = [*(f"{BARS}{n} ! appsink" for n in FORMATS), *(f"{RED}{n} ! appsink" for n in BAYER)]
    return dict(zip([*FORMATS, *BAYER], play(*uris), strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_the_same_scene(shown, name):
    # smpte75: seven bars, whose colours are known; 162 is no multiple of any alignment.
    *items, ended = shown[name]
    assert "ended" in ended
    (item,) = items
    assert item["size_wh"] == [162, 122]
    rgb = array(item, "rgb").astype(int)
    middles = [(2 * n + 1) * 162 // 14 for n in range(7)]
    grey = np.array([0.299, 0.587, 0.114])
    colours = 191 * np.array([(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0),
                              (0, 0, 1)])  # fmt: skip
    if name.startswith("GRAY"):
        # GStreamer's grey is in video range, 16 to 235.
        colours = np.repeat((16 + 219 / 255 * (colours @ grey))[:, None], 3, axis=1)
    for middle, colour in zip(middles, colours, strict=True):
        assert np.abs(rgb[30, middle] - colour).max() <= 4
    luma = array(item, "luma").astype(int)
    assert (np.diff([luma[30, m] for m in middles]) < 0).all()


@pytest.mark.parametrize("order", BAYER)
def test_mosaics(shown, order):
    *items, _ = shown[order]
    assert np.abs(array(items[0], "rgb")[4:-4, 4:-4].astype(int) - (255, 0, 0)).max() <= 4


def test_frames_carry_positions_and_changes_of_format(play):
    caps = "video/x-raw,format=NV12,width=64,height=48,framerate=10/1"
    *items, ended = play(f"gst:videotestsrc num-buffers=5 ! {caps} ! appsink")
    assert [i["index"] for i in items] == list(range(5))
    assert [i["media_s"] for i in items] == pytest.approx([n / 10 for n in range(5)])
    assert ended == {"ended": "gst:videotestsrc ! video/x-raw,format=NV12,width=64,height=48,"
                              "framerate=10/1 ! appsink"}  # fmt: skip


def test_the_end_of_a_live_pipeline_is_a_stall(play):
    *items, error = play("gst:videotestsrc is-live=true num-buffers=4 ! appsink")
    assert len(items) == 4
    assert error["error"] == "SourceStalled"
    assert "the live pipeline ended" in error["message"]


def test_a_silent_pipeline_is_a_stall(play):
    (error,) = play("gst:appsrc is-live=true ! appsink", timeout_s=0.5)
    assert error["error"] == "SourceStalled"
    assert "no picture within 0.5 s" in error["message"]


def test_close_ends_a_pipeline_that_would_not(play):
    *items, ended = play("gst:videotestsrc is-live=true ! appsink", frames=3)
    assert len(items) == 3
    assert "ended" in ended


UNFIT = [
        ("nosuchelement ! appsink", "SourceUnavailable", 'no element "nosuchelement"'),
        ("videotestsrc ! ! appsink", "ConfigError", "is no pipeline: syntax error"),
        ("videotestsrc ! fakesink", "ConfigError", "must have one appsink, it has 0"),
        ("appsink", "ConfigError", "it has 0"),
        ("videotestsrc ! appsink videotestsrc ! appsink", "ConfigError", "it has 2"),
        ("filesrc location=/nope/canary ! decodebin ! appsink", "SourceUnavailable",
         "does not start"),
        ("videotestsrc ! video/x-raw,format=v308 ! appsink", "SourceUnavailable",
         "does not start"),
        ("videotestsrc ! capsfilter caps=video/x-raw,format=v308 ! queue ! appsink",
         "SourceUnavailable", "put videoconvert"),
    ]  # fmt: skip


def test_what_cannot_run_is_said(play):
    found = play(*(f"gst:{pipeline}" for pipeline, _, _ in UNFIT), timeout_s=1.0)
    for (pipeline, kind, problem), items in zip(UNFIT, found, strict=True):
        error = items[-1]
        assert error.get("error") == kind, (pipeline, error)
        assert problem in error["message"]
        assert "canary" not in error["message"]
        assert "\n" not in error["message"]


def test_properties_are_not_printed():
    shown = printable("rtspsrc location=rtsp://u:canary@h/x user-pw=canary ! decodebin ! appsink")
    assert shown == "gst:rtspsrc ! decodebin ! appsink"


def test_without_gi_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    for uri in ("gst:videotestsrc ! appsink", "csi://0"):
        with pytest.raises(SourceUnavailable, match="apt-get install python3-gi"):
            open_source(uri)


def test_the_pipelines_of_boards():
    """As the boards' documentation has them; no board ran them here."""
    sink = "appsink max-buffers=2 drop=true sync=false"
    assert pipelines_of("csi://0") == {
        "nvarguscamerasrc": "nvarguscamerasrc sensor-id=0 ! "
        "video/x-raw(memory:NVMM),format=NV12,framerate=30/1 ! nvvidconv ! "
        f"video/x-raw,format=NV12,width=1280,height=720 ! {sink}",
        "libcamerasrc": "libcamerasrc ! "
        f"video/x-raw,format=NV12,width=1280,height=720,framerate=30/1 ! {sink}",
    }
    other = pipelines_of("CSI://1?size=640x480&fps=15")
    assert list(other) == ["nvarguscamerasrc"]
    assert "sensor-id=1" in other["nvarguscamerasrc"]
    assert "width=640,height=480" in other["nvarguscamerasrc"]
    assert "framerate=15/1" in other["nvarguscamerasrc"]
    assert "framerate=60/1" in pipelines_of("csi://0?fps=60")["nvarguscamerasrc"]


def test_a_machine_without_csi_elements_says_so(play):
    (error,) = play("csi://0")
    if error["error"] == "SourceStalled":
        pytest.skip("this machine has a CSI camera element")
    assert error["error"] == "SourceUnavailable"
    assert "nvarguscamerasrc or libcamerasrc" in error["message"]


def test_ros_2_needs_rclpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(SourceUnavailable, match="needs rclpy, which comes with ROS 2"):
        open_source("ros2:/camera/image")
    with pytest.raises(ConfigError, match="a ROS 2 topic is"):
        open_source("ros2:/camera/image?x=1")
