from __future__ import annotations

import gc
import random
import threading
import time
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from edgevlm.errors import SourceError, SourceUnavailable
from edgevlm.frame import BadFrame, Frame
from edgevlm.runtime.stream.sources.pixels import VideoPixels
from edgevlm.runtime.stream.sources.resync import REFERS
from edgevlm.runtime.stream.sources.video import VideoFileSource, VideoStream
from tests.conftest import ROOT


def reference(path):
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def damage(path, numbers, every=9):
    """Flip a byte in so many of the packets with these numbers; their headers stay."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(bytes(p), p.pos) for p in container.demux(video=0) if p.size]
    for number in numbers:
        body, near = packets[number]
        at = data.index(body, near)
        for i in range(at + 8, at + len(body), every):
            data[i] ^= 0xFF
    path.write_bytes(data)


def good(items):
    return [item for item in items if isinstance(item, Frame)]


def bad(items):
    return [item for item in items if isinstance(item, BadFrame)]


def test_frames_carry_index_position_and_arrival(clip, clock):
    source = VideoFileSource(clip, clock=clock)
    frames = list(source.frames())
    assert source.live is False
    assert source.name == str(clip)
    assert [f.index for f in frames] == list(range(20))
    assert [f.media_s for f in frames] == pytest.approx([i / 25 for i in range(20)])
    assert {(f.captured_ns, f.monotonic_ns) for f in frames} == {
        (clock.wall_ns(), clock.monotonic_ns())
    }
    assert {f.clock for f in frames} == {"arrival"}
    assert frames[0].pixels.size_wh == (160, 120)
    assert clock.slept_s == []


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("j.avi", "mjpeg", "yuvj420p"),
        ("n.mkv", "rawvideo", "nv12"),
        ("g.mkv", "ffv1", "gray"),
    ],
)
def test_luma_is_the_y_plane_and_rgb_what_libav_converts(encode, tmp_path, name, codec, pix_fmt):
    # 162 is no multiple of any decoder's alignment: the rows have padding to cut.
    path = encode(tmp_path / name, 5, size_wh=(162, 122), codec=codec, pix_fmt=pix_fmt)
    frames = list(VideoFileSource(path).frames())
    pictures = reference(path)
    assert len(frames) == len(pictures) == 5
    for frame, picture in zip(frames, pictures, strict=True):
        assert picture.format.name == pix_fmt
        plane = np.frombuffer(picture.planes[0], np.uint8)
        plane = plane.reshape(-1, picture.planes[0].line_size)[:122, :162]
        luma = frame.pixels.luma()
        assert luma.shape == (122, 162)
        assert not luma.flags.owndata
        np.testing.assert_array_equal(luma, plane)
        np.testing.assert_array_equal(frame.pixels.rgb(), picture.to_ndarray(format="rgb24"))


def test_pixels_convert_when_asked_and_only_once(clip, monkeypatch):
    import av.video.reformatter as reformatter

    made = []
    real = reformatter.VideoReformatter
    monkeypatch.setattr(reformatter, "VideoReformatter", lambda: made.append(1) or real())
    pixels = [frame.pixels for frame in VideoFileSource(clip).frames()]
    for each in pixels:
        each.luma()
    assert made == []
    assert pixels[3].rgb() is pixels[3].rgb()
    assert made == [1]


def test_luma_outlives_the_source_and_its_pixels(clip):
    source = VideoFileSource(clip)
    planes = [frame.pixels.luma() for frame in source.frames()]
    source.close()
    for plane, picture in zip(planes, reference(clip), strict=True):
        np.testing.assert_array_equal(plane, VideoPixels(picture).luma())


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mkv", "ffv1", "yuv420p10le"), ("a.mkv", "ffv1", "bgr0"), ("a.mov", "png", "rgb24")],
)
def test_luma_of_other_formats_is_grey(encode, tmp_path, name, codec, pix_fmt):
    path = encode(tmp_path / name, 2, codec=codec, pix_fmt=pix_fmt)
    frame = next(iter(VideoFileSource(path).frames()))
    luma = frame.pixels.luma()
    weights = np.array([0.299, 0.587, 0.114])
    assert luma.dtype == np.uint8
    assert np.abs(luma - frame.pixels.rgb() @ weights).mean() < 3


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda a: a),
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),  # a phone held upright: clockwise
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
        ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
        ((-1, 0, 0, 1), lambda a: a[:, ::-1]),
        ((1, 0, 0, -1), lambda a: a[::-1]),
        ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
    ],
)
def test_the_display_matrix_turns_both_planes(encode, turn, tmp_path, matrix, expected):
    path = encode(tmp_path / "a.mp4", 2)
    upright = next(iter(VideoFileSource(path).frames())).pixels
    turn(path, matrix)
    turned = next(iter(VideoFileSource(path).frames())).pixels
    np.testing.assert_array_equal(turned.rgb(), expected(upright.rgb()))
    np.testing.assert_array_equal(turned.luma(), expected(upright.luma()))
    assert turned.size_wh == turned.rgb().shape[1::-1]
    assert turned.rgb().flags.c_contiguous


def test_positions_start_at_zero_and_follow_the_stamps(encode, tmp_path):
    path = encode(tmp_path / "a.mkv", 4, stamps=[50, 51, 75, 76], options={"bf": "0"})
    assert [f.media_s for f in VideoFileSource(path).frames()] == pytest.approx(
        [0, 0.04, 1.0, 1.04]
    )


def test_realtime_waits_for_the_stamps_in_short_slices(encode, tmp_path, clock):
    path = encode(tmp_path / "a.mkv", 4, stamps=[0, 1, 26, 27], options={"bf": "0"})
    source = VideoFileSource(path, realtime=True, clock=clock)
    assert source.live is True
    start_ns = clock.now_ns
    frames = list(source.frames())
    arrivals = [(f.monotonic_ns - start_ns) / 1e9 for f in frames]
    assert arrivals == pytest.approx([0, 0.04, 1.04, 1.08], abs=1e-6)
    assert max(clock.slept_s) <= 0.05
    assert frames[2].captured_ns - frames[0].captured_ns == pytest.approx(1.04e9, abs=1e4)


def test_a_late_reader_of_a_realtime_file_does_not_wait_again(clip, clock):
    frames = VideoFileSource(clip, realtime=True, clock=clock).frames()
    next(frames)
    clock.now_ns += 10_000_000_000
    assert len(list(frames)) == 19
    assert clock.slept_s == []


def test_close_ends_a_waiting_realtime_source_within_a_tenth_of_a_second(encode, tmp_path):
    path = encode(tmp_path / "a.mkv", 2, stamps=[0, 25 * 60], options={"bf": "0"})
    source = VideoFileSource(path, realtime=True)
    frames = source.frames()
    next(frames)
    ended = []
    reader = threading.Thread(target=lambda: ended.append((list(frames), time.monotonic())))
    reader.start()
    time.sleep(0.2)
    began = time.monotonic()
    source.close()
    reader.join(2)
    assert ended[0][0] == []
    assert ended[0][1] - began < 0.1


def test_close_is_legal_in_every_state(clip):
    unread = VideoFileSource(clip)
    unread.close()
    unread.close()
    assert list(unread.frames()) == []
    half = VideoFileSource(clip)
    frames = half.frames()
    kept = next(frames)
    half.close()
    assert list(frames) == []
    assert kept.pixels.rgb().shape == (120, 160, 3)
    done = VideoFileSource(clip)
    list(done.frames())
    done.close()


def test_close_from_other_threads_while_decoding(clip):
    for _ in range(30):
        source = VideoFileSource(clip)
        closers = [threading.Thread(target=source.close) for _ in range(3)]
        seen = 0
        for _ in source.frames():
            seen += 1
            if seen == 3:
                for closer in closers:
                    closer.start()
        for closer in closers:
            closer.join()
        assert seen <= 20


def test_abandoned_frames_release_the_file(clip):
    source = VideoFileSource(clip)
    frames = source.frames()
    next(frames)
    frames.close()
    assert list(source.frames()) == []


@pytest.mark.parametrize(
    ("name", "container"),
    [("a.mp4", {"movflags": "+faststart"}), ("a.mkv", {}), ("a.ts", {}), ("a.avi", {})],
)
def test_a_truncated_file_gives_what_is_there(encode, tmp_path, name, container):
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = encode(tmp_path / name, 40, codec=codec, container=container)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    items = list(VideoFileSource(path).frames())
    assert 5 <= len(good(items)) < 40
    assert len(bad(items)) <= 3
    assert [item.index for item in items] == list(range(len(items)))


def test_an_index_that_was_cut_off_is_unavailable(encode, tmp_path):
    path = encode(tmp_path / "a.mp4", 40)  # its index is at the end
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(SourceUnavailable, match=r"a\.mp4 cannot be opened as video: Invalid data"):
        VideoFileSource(path)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("j.avi", "mjpeg", "yuvj420p"),
    ],
)
def test_damage_in_the_middle_is_counted_and_decoding_goes_on(
    encode, tmp_path, name, codec, pix_fmt
):
    path = encode(tmp_path / name, 60, codec=codec, pix_fmt=pix_fmt, options={"g": "12"})
    damage(path, range(15, 25))
    items = list(VideoFileSource(path).frames())
    assert bad(items)
    assert len(good(items)) >= 20
    assert all("\n" not in item.reason for item in bad(items))
    assert isinstance(items[-1], Frame)
    assert [item.index for item in items] == list(range(len(items)))
    positions = [item.media_s for item in good(items)]
    assert all(a < b for a, b in pairwise(positions))


def test_damage_everywhere_is_an_error_after_the_counting(encode, tmp_path, collect):
    path = encode(tmp_path / "j.avi", 6, codec="mjpeg", pix_fmt="yuvj420p")
    damage(path, range(6), every=1)
    items, error = collect(VideoFileSource(path))
    assert str(error) == f"{path}: no video frame could be decoded"
    assert len(bad(items)) == len(items) >= 1


def test_what_is_no_video_is_unavailable(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello world\n" * 200)
    (tmp_path / "random.mp4").write_bytes(random.Random(3).randbytes(5000))
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        samples.sample_rate = 8000
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    for name, problem in {
        "empty.mp4": r"is empty \(0 bytes\)",
        "text.mp4": "cannot be opened as video: Invalid data found",
        "random.mp4": "cannot be opened as video: Invalid data found",
        "sound.wav": "has no video stream",
        "missing.mp4": "does not exist",
        ".": "is not a regular file",
    }.items():
        with pytest.raises(SourceUnavailable, match=problem) as caught:
            VideoFileSource(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


def test_a_cover_picture_is_no_video(tmp_path):
    """An ID3v2 tag with an APIC frame before MP3 data, as music files have it."""
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (32, 32), (200, 30, 30)).save(cover)
    if "libmp3lame" not in av.codecs_available:
        pytest.skip("this PyAV has no MP3 encoder")
    sound = tmp_path / "plain.mp3"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("libmp3lame", rate=44100)
        samples = av.AudioFrame.from_ndarray(
            np.zeros((2, 44100), np.int16), format="s16p", layout="stereo"
        )
        samples.sample_rate = 44100
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    body = b"\x00image/jpeg\x00\x03\x00" + cover.read_bytes()
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\x00\x00" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tagged = tmp_path / "song.mp3"
    tagged.write_bytes(b"ID3\x03\x00\x00" + size + frame + sound.read_bytes())
    with av.open(str(tagged)) as container:
        assert len(container.streams.video) == 1, "the tag was read as a video stream"
    with pytest.raises(SourceUnavailable, match="has no video stream"):
        VideoFileSource(tagged)


def test_a_playlist_opens_nothing_but_files(tmp_path):
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        list(VideoFileSource(playlist).frames())


def test_a_name_that_looks_like_a_protocol_is_a_file(encode, tmp_path, monkeypatch):
    encode(tmp_path / "plain.mkv", 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.mkv").rename("concat:x.mkv")
    assert len(list(VideoFileSource("concat:x.mkv").frames())) == 3


def test_titles_in_another_encoding_do_not_matter(encode, tmp_path):
    path = encode(tmp_path / "a.mkv", 3)
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xe8\xff\xfe"))
    assert len(list(VideoFileSource(path).frames())) == 3


def test_frames_are_freed_as_the_stream_goes_on_without_the_garbage_collector():
    """A cycle through a frame would keep every decoded picture until the collector comes by."""
    source = VideoFileSource(ROOT / "configs" / "assets" / "sample.mp4")
    gc.collect()
    gc.disable()
    try:
        for frame in source.frames():
            assert isinstance(frame, Frame)
            frame.pixels.luma()
            if frame.index == 60:
                break
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
        source.close()
    assert alive <= 8  # what the decoder's own threads hold


@pytest.mark.parametrize(
    "tuning",
    [
        "bframes=3:b-pyramid=normal:ref=4",
        "bframes=2:open-gop=1:b-pyramid=strict",
        "interlaced=1:bframes=0",
        "intra-refresh=1:bframes=0",
        "slices=4:weightp=2",
        "keyint=3:min-keyint=1",
    ],
)
@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_nothing_of_a_whole_stream_counts_as_lost(encode, tmp_path, name, tuning):
    tuned = tuning if "keyint" in tuning else f"keyint=15:{tuning}"
    path = encode(tmp_path / name, 70, options={"x264-params": tuned})
    items = list(VideoFileSource(path).frames())
    assert bad(items) == []
    assert len(items) == len(reference(path)) >= 68


@pytest.mark.parametrize("bframes", ["0", "2"])
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_a_lost_reference_hides_pictures_up_to_the_next_key_frame(encode, tmp_path, name, bframes):
    """libav conceals it without a word: every picture given out must be one that was sent."""
    clip = encode(tmp_path / name, 60, options={"g": "12", "bf": bframes})
    whole = {f.pts: f.to_ndarray(format="gray") for f in reference(clip)}
    references = 0
    for lost in (14, 27, 36):  # the last one is a key frame
        with av.open(str(clip)) as container:
            stream = VideoStream(container, "clip")
            shown = []
            for number, packet in enumerate(container.demux(video=0)):
                if number != lost and packet.size:
                    shown += stream.decode(packet)
            shown += stream.decode(None)
        pictures = [item for item in shown if not isinstance(item, str)]
        for picture in pictures:
            np.testing.assert_array_equal(picture.to_ndarray(format="gray"), whole[picture.pts])
        references += REFERS in shown
        assert len(pictures) >= 60 - 24
    assert references >= 2
