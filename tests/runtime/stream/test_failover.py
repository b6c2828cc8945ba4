"""On a fallback: the stream answers at once, the engine is made again, the swap is between frames.

The first tests follow the steps with children that end when told to; the last one has real
children and real ONNX Runtime on both sides.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.engines import Platform
from edgevlm.config import RunConfig, make_config
from edgevlm.errors import BackendError, ConfigError
from edgevlm.event import AnswerEvent, FaultEvent
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.registry import BACKENDS
from edgevlm.runtime.backends.scripted import ScriptedBackend
from edgevlm.runtime.backends.scripted_engine import HERE
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.missed import Missed
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.clock import SYSTEM
from edgevlm.runtime.stream.failover import Failover
from edgevlm.runtime.stream.pipeline import Stream
from edgevlm.runtime.stream.worker import Child
from tests.runtime.engine_bundle import add_engines
from tests.runtime.stream.conftest import ListSource, ManualClock

MISSED = Missed("trt", "trt", "decoder.engine does not fit this machine: version is 10.3")
ROOT = Path(__file__).parents[3]


class Script:
    """Children that end as told: an exit code, or None to go on, a poll each."""

    def __init__(self, *ends: tuple[int | None, str]) -> None:
        self.commands: list[list[str]] = []
        self.stopped = 0
        self._ends = list(ends)

    def __call__(self, command: Sequence[str]) -> Script:
        self.commands.append(list(command))
        return self

    def ended(self) -> int | None:
        self._code, self._words = self._ends.pop(0)
        return self._code

    def last_words(self) -> str:
        return self._words

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def failover(
    nano: Bundle,
    scripted: Callable[..., Vlm],
    clock: ManualClock,
) -> Callable[..., Failover]:
    """A failover whose engine, once built, is another scripted model called ``trt``."""
    assert nano.manifest.prompt is not None
    engine = ScriptedBackend(nano.manifest, [28120, nano.manifest.prompt.stop_token_ids[0]])
    engine.name = "trt"
    ready = Vlm(nano, engine)

    def make(script: Script, missed: Missed = MISSED, loads: Any = ready) -> Failover:
        def loading() -> Vlm:
            if isinstance(loads, Exception):
                raise loads
            return loads

        model = scripted()
        model.missed = missed
        return Failover(model, missed, loading, clock, script)

    return make


def events_of(
    levels: Sequence[int | None], made: Failover, clock: ManualClock, config: RunConfig
) -> list[Any]:
    source = ListSource(levels, clock)
    return list(Stream(config, source, made.model, clock, kept=made).events())[:-1]


def test_the_stream_answers_at_once_and_swaps_when_build_and_parity_are_done(
    failover: Callable[..., Failover], clock: ManualClock, config: Callable[..., RunConfig]
):
    script = Script((None, ""), (0, "built"), (None, ""), (0, "agrees"))
    made = failover(script)
    fallback = made.model
    events = events_of([10, 60, 110, 160, 210, 20, 70], made, clock, config())
    assert [(e.backend, bool(e.degraded)) for e in events] == [
        ("scripted", True), ("scripted", True), ("scripted", True), ("scripted", True),
        ("scripted", True), ("trt", False), ("trt", False),
    ]  # fmt: skip
    assert events[0].degraded == (f"fallback: trt: {MISSED.reason}",)
    root = str(fallback.bundle.root)
    assert [command[2:] for command in script.commands] == [
        ["edgevlm", "build", root, "--target", "trt", "--force", "--no-measure"],
        ["edgevlm", "verify", root, "--backend", "trt"],
    ]
    assert script.commands[0][0] == sys.executable
    assert script.stopped == 2
    with pytest.raises(Exception, match="closed"):
        fallback.ask(None, "are you still there?")
    made.close()
    made.close()


def test_a_scene_that_stands_still_is_answered_anew_after_the_swap(
    failover: Callable[..., Failover], clock: ManualClock, config: Callable[..., RunConfig]
):
    made = failover(Script((0, ""), (0, "")))
    settings = config(policy={"reuse_every_s": 0})
    events = events_of([80] * 5, made, clock, settings)
    assert [(e.backend, e.reused) for e in events] == [
        ("scripted", False), ("scripted", True), ("scripted", True),
        ("trt", False), ("trt", True),
    ]  # fmt: skip


def test_a_build_that_fails_is_a_fault_and_tried_again_later_but_not_for_ever(
    failover: Callable[..., Failover], clock: ManualClock
):
    script = Script(*[(1, "edgevlm: out of memory")] * 3)
    made = failover(script)
    faults: list[str] = []
    waited: list[float] = []
    for _ in range(200):
        before = len(faults)
        faults += [str(e) for e in made.poll()]
        if len(faults) > before:
            waited.append(clock.now_ns / 1e9)
        clock.advance(5)
    assert len(script.commands) == len(faults) == 3
    assert [waited[1] - waited[0], waited[2] - waited[1]] == [35, 305]
    assert "build of the engines of trt failed: edgevlm: out of memory" in faults[0]
    assert "scripted goes on answering; tried again in 30 s" in faults[0]
    assert "to try by hand: edgevlm build" in faults[2]
    assert made.model.missed is MISSED


def test_engines_that_miss_their_gates_are_never_used(
    failover: Callable[..., Failover], clock: ManualClock, config: Callable[..., RunConfig]
):
    script = Script((0, ""), (1, "edgevlm: parity gates missed: logits"))
    events = events_of([10, 60, 110, 160, 210], failover(script), clock, config())
    faults = [e for e in events if isinstance(e, FaultEvent)]
    answers = [e for e in events if isinstance(e, AnswerEvent)]
    assert [e.seq for e in events] == list(range(6))
    (fault,) = faults
    assert fault.code == "backend"
    assert "verify of the new engines of trt failed: edgevlm: parity gates missed" in fault.message
    assert {e.backend for e in answers} == {"scripted"}
    assert all(e.degraded for e in answers)
    assert len(script.commands) == 2


def test_an_engine_that_does_not_load_is_built_again(
    failover: Callable[..., Failover], clock: ManualClock
):
    script = Script((0, ""), (0, ""), (None, ""))
    made = failover(script, loads=BackendError("the memory is full"))
    said = [str(error) for _ in range(4) for error in made.poll()]
    assert said == [
        "verify of the new engines of trt failed: the memory is full; scripted goes on answering; "
        "tried again in 30 s"
    ]
    clock.advance(30)
    list(made.poll())
    assert [c[3] for c in script.commands] == ["build", "verify", "build"]
    made.close()
    assert script.stopped == 3  # the one that was still at work


def test_a_command_that_cannot_be_started_counts_as_an_attempt(
    scripted: Callable[..., Vlm], clock: ManualClock
):
    def refuse(command: Sequence[str]) -> Script:
        raise BackendError(f"{command[0]} cannot be started")

    made = Failover(scripted(), MISSED, scripted, clock, refuse)
    (error,) = made.poll()
    assert "cannot be started; scripted goes on answering; tried again in 30 s" in str(error)
    assert list(made.poll()) == []


def test_where_nothing_could_be_built_nothing_is_started(
    failover: Callable[..., Failover], clock: ManualClock, config: Callable[..., RunConfig]
):
    script = Script()
    made = failover(script, Missed("trt", None, "tensorrt is not on this machine"))
    events = events_of([10, 60, 110], made, clock, config())
    assert script.commands == []
    assert {e.degraded for e in events} == {("fallback: trt: tensorrt is not on this machine",)}


def test_a_fallback_to_the_backend_itself_is_refused():
    raw = {"bundle": "-", "ask": "?", "source": {"uri": "-"}}
    with pytest.raises(ConfigError, match="fallback is the backend itself, ort-cpu"):
        make_config({**raw, "engine": {"fallback": "ort-cpu"}})


# --- real children, real ONNX Runtime on both sides -----------------------------------------

NEWER = Platform(library="tensorrt", version="10.16.2", cuda="13.2", sm="87", device="host memory")
PLUGIN = """
from edgevlm.runtime.backends.scripted_engine import ScriptedTrtBackend
from tests.runtime.stream.test_failover import NEWER

class Backend(ScriptedTrtBackend):
    def __init__(self, options):
        super().__init__(options, NEWER)
"""


@pytest.fixture
def updated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose TensorRT is newer than the engines, for this process and its children."""
    info = tmp_path / "site" / "updated-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: updated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgevlm.backends]\nupdated-trt = updated_trt:Backend\n"
    )
    (tmp_path / "site" / "updated_trt.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}:{ROOT}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert "updated-trt" in BACKENDS.known()


BUILD = """
import sys
from pathlib import Path
from tests.runtime.engine_bundle import add_engines
from tests.runtime.stream.test_failover import NEWER
add_engines(Path(sys.argv[1]), NEWER)
"""


@pytest.mark.usefixtures("updated")
def test_after_an_update_the_device_answers_and_comes_back_to_its_engines(
    nano: Bundle, tmp_path: Path
):
    root = tmp_path / "nano"
    shutil.copytree(nano.root, root)
    add_engines(root, HERE)  # as they were made before the update
    commands: list[Sequence[str]] = []

    def start(command: Sequence[str]) -> Child:
        commands.append(command)
        if "build" in command:  # the compiler of the stand-in
            return Child([sys.executable, "-c", BUILD, str(root)])
        return Child(command)

    model = load(root, backend="updated-trt", fallback="ort-cpu", threads=1, spin=False)
    missed = model.missed
    assert missed is not None
    assert (missed.target, model.backend.name) == ("trt", "ort-cpu")
    assert "version is 10.3.0, here 10.16.2" in missed.reason
    made = Failover(
        model,
        missed,
        lambda: load(root, backend="updated-trt", threads=1, spin=False),
        SYSTEM,
        start,
    )
    config = make_config(
        {"bundle": str(root), "ask": "What is it?", "source": {"uri": "-"},
         "generation": {"max_tokens": 3}}
    )  # fmt: skip

    class UntilSwapped:
        """Frames, all different, until two were answered by the engine."""

        name, live = "until", False

        def frames(self) -> Any:
            left = 2
            for index in range(100_000):
                left -= made.model is not model
                picture = np.full((72, 128, 3), index * 37 % 255, np.uint8)
                yield Frame(
                    index=index, pixels=ArrayPixels(picture), captured_ns=SYSTEM.wall_ns(),
                    monotonic_ns=SYSTEM.monotonic_ns(), media_s=index / 10,
                )  # fmt: skip
                if left == 0:
                    return

        def close(self) -> None:
            pass

    events = list(Stream(config, UntilSwapped(), model, SYSTEM, kept=made).events())
    summary = events.pop()
    made.close()
    assert not [e for e in events if isinstance(e, FaultEvent)]
    backends = [e.backend for e in events]
    assert set(backends[:-2]) == {"ort-cpu"}
    assert backends[-2:] == ["trt", "trt"]
    assert [bool(e.degraded) for e in events] == [b == "ort-cpu" for b in backends]
    assert summary.frames.answered == summary.frames.read == len(events)
    assert [c[3] for c in commands] == ["build", "verify"]
    assert open_bundle(root).manifest.engines["trt"].graphs["decoder"].key.platform == NEWER


@pytest.mark.usefixtures("updated")
def test_without_a_fallback_the_error_stands(nano: Bundle):
    with pytest.raises(BackendError, match="no engine of vision for trt"):
        load(nano.root, backend="updated-trt")
    with load(nano.root, backend="updated-trt", fallback="ort-cpu", threads=1) as model:
        assert model.missed == Missed("updated-trt", "trt", model.missed.reason)
        assert "edgevlm build" in model.missed.reason
