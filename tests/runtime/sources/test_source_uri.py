from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgevlm.errors import ConfigError, SourceUnavailable
from edgevlm.runtime.stream.sources import open_source
from edgevlm.runtime.stream.sources.http import HttpSource
from edgevlm.runtime.stream.sources.images import ImageSource
from edgevlm.runtime.stream.sources.reconnect import ReconnectingSource
from edgevlm.runtime.stream.sources.rtsp import RtspSource
from edgevlm.runtime.stream.sources.synthetic import SyntheticSource
from edgevlm.runtime.stream.sources.uri import dialled, redact, scrub
from edgevlm.runtime.stream.sources.video import VideoFileSource


@pytest.fixture
def here(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    for name in ("pics/a.png", "pics/b.PNG", "one.jpeg", "odd[1].png", "c:d.png"):
        Image.new("RGB", (4, 3)).save(name)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "clip.strange").write_bytes(clip.read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("uri", "kind", "count"),
    [
        ("clip.mp4", VideoFileSource, 20),
        ("./clip.strange", VideoFileSource, 20),
        ("pics", ImageSource, 2),
        ("pics/", ImageSource, 2),
        ("pics/*.png", ImageSource, 1),
        ("p?cs/[ab].*", ImageSource, 2),
        ("**/*.png", ImageSource, 3),
        ("one.jpeg", ImageSource, 1),
        ("odd[1].png", ImageSource, 1),
        ("./c:d.png", ImageSource, 1),
        ("synthetic:?frames=3&size=32x16", SyntheticSource, 3),
        ("SYNTHETIC:?frames=3&size=32x16", SyntheticSource, 3),
    ],
)
@pytest.mark.usefixtures("here")
def test_recorded_sources(uri, kind, count, clock):
    source = open_source(uri)
    assert type(source) is kind
    assert not source.live
    source.close()
    paced = open_source(uri, realtime=True, clock=clock)
    assert paced.live
    assert len(list(paced.frames())) == count


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("rtsp://host/x", RtspSource),
        ("RTSPS://host:1/x#transport=udp", RtspSource),
        ("HTTP://host:1/x.mjpg", HttpSource),
        ("https://host/x.m3u8", HttpSource),
    ],
)
def test_network_cameras_are_not_dialled_before_they_are_read(uri, kind):
    source = open_source(uri, reconnect=False)
    assert type(source) is kind
    again = open_source(uri)
    assert type(again) is ReconnectingSource
    for each in (source, again):
        assert each.live
        assert "transport" not in each.name
        each.close()
        assert list(each.frames()) == []


@pytest.mark.parametrize("uri", ["0", "v4l2:///dev/video0", "rtsp://u:canary@host/x"])
def test_realtime_is_not_for_live_sources(uri):
    with pytest.raises(ConfigError, match="is live already") as caught:
        open_source(uri, realtime=True)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("uri", ["987", "v4l2:///dev/video987"])
def test_an_absent_camera_is_named_with_the_remedy(uri, capfd):
    with pytest.raises(SourceUnavailable, match=r"/dev/video987 cannot be opened: .*ls /dev/video"):
        open_source(uri)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("concat:a|b", "'concat:'"),
        ("exec:curl -u canary:canary", "'exec:'"),
        ("ftp://u:canary@host/x", "'ftp:'"),
        ("file:clip.mp4", "'file:'"),
        ("file:///etc/passwd", "'file:'"),
        ("subfile:,,start,0:clip.mp4", "'subfile:'"),
        ("lavfi:testsrc", "'lavfi:'"),
        ("udp://239.0.0.1:1", "'udp:'"),
        ("pipe:0", "'pipe:'"),
        ("canary:canary@10.0.0.1/stream", r"'\*\*\*'"),
        ("", "is empty"),
    ],
)
@pytest.mark.usefixtures("here")
def test_unknown_schemes_are_refused_with_the_known_ones(uri, shown):
    with pytest.raises(ConfigError, match=shown) as caught:
        open_source(uri)
    message = str(caught.value)
    assert all(
        known in message for known in ("v4l2://", "rtsp://", "rtsps://", "http://", "synthetic:")
    )
    assert "canary" not in message


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("v4l2:///etc/passwd", "a camera is 0, v4l2"),
        ("v4l2://dev/video0", "a camera is 0, v4l2"),
        ("v4l2:0", "a camera is 0, v4l2"),
        ("v4l2://u:canary@host/dev/video0", "a camera is 0, v4l2"),
        ("synthetic://u:canary@host", "a synthetic source is"),
        ("rtsp://", "no valid host"),
        ("rtsp:host/x", "no valid host"),
        ("rtsp://host:99999/x", "no valid host"),
        ("http:host/x", "no valid host"),
        ("https://u:canary@/x", "no valid host"),
        ("rtsp://u:canary@/x", "no valid host"),
        ("rtsp://u:canary@host/x\r\nDESCRIBE", "control characters"),
        ("synthetic:seed=1", "a synthetic source is"),
        ("csi://u:canary@0", "a CSI camera is csi://0"),
        ("csi://0?", "a CSI camera is"),
        ("csi://0?fps=30&size=640x480", "a CSI camera is"),
        ("ros2:camera", "a ROS 2 topic is ros2:/camera/image"),
        ("ros2:/camera image", "a ROS 2 topic is"),
        ("gst:", "a GStreamer source is gst:PIPELINE"),
    ],
)
def test_bad_uris_of_known_schemes(uri, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        open_source(uri)
    assert "canary" not in str(caught.value)


@pytest.mark.usefixtures("here")
def test_missing_paths_are_unavailable():
    for uri in ("nope.mp4", "/nope/nope", "nope/*.png", "-1", "½", "x" * 5000):
        with pytest.raises(SourceUnavailable) as caught:
            open_source(uri)
        assert "\n" not in str(caught.value)
    os.mkfifo("pipe.mp4")
    with pytest.raises(SourceUnavailable, match="is not a regular file"):
        open_source("pipe.mp4")


CANARIES = ["canary", "can@ry", "can%21ary", "can#ary", "can/ary", "can:ary", "c@n%21#/a:r?y@", "%"]


@pytest.mark.parametrize("password", CANARIES)
@pytest.mark.parametrize("scheme", ["rtsp", "RTSPS", "http"])
def test_redaction_survives_odd_passwords(scheme, password):
    uri = f"{scheme}://ad-min:{password}@10.0.0.7:554/live/1"
    assert redact(uri) == f"{scheme}://***@10.0.0.7:554/live/1"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://host/live", "rtsp://host/live"),
        ("rtsp://user@host/live", "rtsp://***@host/live"),
        ("rtsp://host/live?channel=1&pwd=canary#x", "rtsp://host/live?channel=***&pwd=***#x"),
        ("rtsp://host/user=admin_password=canary_1.sdp", "rtsp://host/user=***"),
        ("rtsp://u:12/34@host/live", "rtsp://***@host/live"),
        ("rtsp://host/live@home", "rtsp://***@home"),  # the price of the line above
        ("u:canary@host/live", "***@host/live"),
        ("clips/a.mp4", "clips/a.mp4"),
        ("clips/me@home.mp4", "clips/me@home.mp4"),
        ("synthetic:?seed=1&fps=5", "synthetic:?seed=1&fps=5"),
        ("0", "0"),
    ],
)
def test_what_is_printed_of_a_uri(uri, shown):
    assert redact(uri) == shown
    assert redact(redact(uri)) == redact(uri)


@given(
    user=st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=1),
    password=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
)
def test_no_credentials_survive_redaction(user, password):
    shown = redact(f"rtsp://{user}:{password}@host.example:554/live")
    assert shown == "rtsp://***@host.example:554/live"


@pytest.mark.parametrize(
    ("uri", "spelling"),
    [
        ("rtsp://host/live", "rtsp://host/live"),
        ("RTSP://Host:8554/live?x=1", "rtsp://Host:8554/live?x=1"),
        ("rtsp://[fe80::1]:8554/x", "rtsp://[fe80::1]:8554/x"),
        ("rtsp://u@host/x", "rtsp://u@host/x"),
        ("rtsp://u:p%21@host/x", "rtsp://u:p%21@host/x"),
        ("rtsp://u:100%@host/x", "rtsp://u:100%25@host/x"),
        ("rtsp://u:p@ss@host/x", "rtsp://u:p%40ss@host/x"),
        ("rtsp://u:p:q@host/x", "rtsp://u:p%3Aq@host/x"),
        ("rtsp://u:p/q@host/x", "rtsp://u:p%2Fq@host/x"),
        ("rtsp://u:p?q@host/x", "rtsp://u:p%3Fq@host/x"),
        ("rtsp://u:p@ss%21#/x:y@host:1/x", "rtsp://u:p%40ss%21%23%2Fx%3Ay@host:1/x"),
        ("rtsp://u:ü@host/x", "rtsp://u:%C3%BC@host/x"),
        ("rtsp://u:p@host/live@home", "rtsp://u:p@host/live@home"),
        ("rtsp://host:554/live@home", "rtsp://host:554/live@home"),
    ],
)
def test_what_libav_gets_to_dial(uri, spelling):
    assert dialled(uri) == spelling


@pytest.mark.parametrize("password", CANARIES[:-1])
def test_text_of_a_library_is_scrubbed(password):
    uri = f"rtsp://ad-min:{password}@host:1/x"
    text = f"failed: {uri}; {dialled(uri)}; user 'ad-min', password '{password}'"
    scrubbed = scrub(text, uri)
    assert "ad-min" not in scrubbed
    assert password not in scrubbed
    assert scrubbed.startswith("failed: rtsp://***@host:1/x; ")


def test_importing_the_sources_is_light():
    heavy = "av", "cv2", "PIL", "onnxruntime", "torch", "pydantic"
    code = (
        "import sys\n"
        "from edgevlm.runtime.stream.sources import camera, images, rtsp, synthetic, video\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
