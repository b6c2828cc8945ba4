from __future__ import annotations

import av
import numpy as np
import pytest

from edgevlm.errors import SinkError
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.run import _delivered
from edgevlm.runtime.stream.sinks import Sinks, open_sink
from edgevlm.runtime.stream.sinks.video import annotated
from tests.runtime.stream.conftest import ListSource


def test_every_frame_that_was_looked_at_is_in_the_video_at_its_time(
    tmp_path, config, clock, scripted
):
    path = tmp_path / "out.mp4"
    sink = open_sink(f"video:{path}")
    sinks = Sinks([sink])
    source = ListSource([50, 50, 200, None, 200, 90], clock)
    list(_delivered(Stream(config(), source, scripted(), clock, watcher=sinks), sinks))
    sink.close()
    sink.close()
    with av.open(str(path)) as container:
        frames = [
            (round(f.time, 2), f.to_ndarray(format="gray")) for f in container.decode(video=0)
        ]
    assert [at for at, _ in frames] == [0.0, 0.1, 0.2, 0.4, 0.5]
    tops = [image[:20].mean() for _, image in frames]  # above the text
    assert tops == pytest.approx([50, 50, 200, 200, 90], abs=4)
    assert all(image[-20:].std() > 5 for _, image in frames)  # the answer is written


def test_the_answer_and_the_states_are_drawn_on_a_picture_that_fits():
    picture = np.full((1080, 1920, 3), 128, np.uint8)
    plain = np.asarray(annotated(picture, ""))
    assert plain.shape == (720, 1280, 3)
    assert (plain == 128).all()
    told = np.asarray(annotated(picture, "a cat on a sofa", ("door open",), fresh=True))
    assert (told[-40:] != 128).any()
    assert (told[:30, :100] != 128).any()
    assert (told[200:500] == 128).all()


def test_a_video_that_cannot_be(tmp_path):
    with pytest.raises(SinkError, match="cannot be written"):
        open_sink(f"video:{tmp_path}/nowhere/out.mp4")
    with pytest.raises(SinkError, match="cannot be written"):
        open_sink(f"video:{tmp_path}/out.unheard")
