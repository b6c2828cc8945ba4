"""Gates that look through real encoders: nano's own, and a tiny CLIP's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgevlm.bundle import Bundle
from edgevlm.config import make_config
from edgevlm.errors import BundleError, ConfigError, ContextOverflow, ContractError
from edgevlm.event import AnswerEvent
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.frame import ArrayPixels, Frame
from edgevlm.gates import FeatureSection, PromptSection, SceneSection
from edgevlm.runtime.backends.base import EngineOptions
from edgevlm.runtime.backends.ort_cpu import OrtCpuBackend
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vision import VisionEncoder
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.stream.gates import open_chain
from edgevlm.runtime.stream.gates.encoders import Encoders
from edgevlm.runtime.stream.gates.prompt import PromptGate
from edgevlm.runtime.stream.gates.view import View
from edgevlm.runtime.stream.pipeline import Stream

TEXTS = {"prompts": ("a red boat",), "against": ("an empty road", "grass")}


def clip_checkpoint(folder: Path) -> Path:
    """A tiny CLIP as people save theirs."""
    from tests.export.encoders import tiny

    tiny.clip(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as a bundle."""
    root = tmp_path_factory.mktemp("clip")
    export(str(clip_checkpoint(root / "checkpoint")), root / "bundle", ExportOptions())
    return root / "bundle"


@pytest.fixture(scope="module")
def looking(clip: Path) -> Iterator[Vlm]:
    """It, loaded."""
    with load(clip, threads=1, spin=False) as model:
        yield model


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)


def frame(image: np.ndarray, index: int = 0) -> Frame:
    return Frame(
        index=index, pixels=ArrayPixels(image), captured_ns=0, monotonic_ns=0, media_s=index / 10
    )


def seen(image: np.ndarray) -> View:
    return View(frame(image), 0.0, lambda _: pytest.fail("the model that answers is not asked"))


class Pictures:
    """A source of pictures."""

    name, live = "pictures", False

    def __init__(self, images: list[np.ndarray]) -> None:
        self._images = images

    def frames(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            yield frame(image, index)

    def close(self) -> None:
        pass


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of every picture that went through a vision encoder."""
    found: list[tuple[int, ...]] = []
    whole = VisionEncoder.encode

    def counted(self: VisionEncoder, image: np.ndarray, among: int = 1):
        found.append(image.shape)
        return whole(self, image, among)

    monkeypatch.setattr(VisionEncoder, "encode", counted)
    return found


def test_a_frame_that_the_gate_had_encoded_is_not_encoded_again(nano: Bundle, passes):
    images = [picture(1), picture(1), picture(2), picture(2)]
    config = make_config({
        "bundle": "-", "ask": "What?", "source": {"uri": "-"}, "policy": {"reuse_every_s": 0},
        "gates": [{"kind": "scene", "on": "features", "least_s": 0}, {"kind": "feature"}],
        "engine": {"threads": 1},
    })  # fmt: skip
    model = Vlm(nano, OrtCpuBackend(EngineOptions(threads=1, spin=False)))
    try:
        *events, summary = Stream(config, Pictures(images), model).events()
    finally:
        model.close()
    assert len(passes) == 4  # once a frame, whether it was answered or not
    shown = [e for e in events if isinstance(e, AnswerEvent)]
    assert not shown[0].reused
    assert shown[1].reused
    assert all(e.timings_ms.encode > 0 for e in shown)
    assert all(e.timings_ms.gate < e.timings_ms.total for e in shown)
    with Vlm(nano, OrtCpuBackend(EngineOptions(threads=1, spin=False))) as alone:
        assert shown[0].text == alone.ask(images[0], "What?", max_tokens=32).text
    assert summary.gates["main"][0].asked == 4


def test_the_gates_of_a_model_without_patches_want_a_bundle(tmp_path: Path):
    from tests.core.tiny import export_tiny

    blind = export_tiny(tmp_path).manifest
    for section in (FeatureSection(), SceneSection(on="features")):
        with pytest.raises(ContractError, match="no encoder with features of patches"):
            open_chain([section], Encoders(blind))


def test_a_gate_looks_through_a_bundle_of_its_own(clip: Path):
    sections = [FeatureSection(bundle=str(clip))]
    chain = open_chain(sections, Encoders())
    said = []
    for image in (picture(1), picture(1), picture(2)):
        said.append(chain.decide(seen(image)).do)
        chain.accept()
    chain.close()
    chain.close()
    assert said == ["answer", "reuse", "answer"]


def test_a_bundle_that_is_not_there_is_refused_before_the_stream_begins(tmp_path: Path):
    with pytest.raises(BundleError):
        open_chain([FeatureSection(bundle=str(tmp_path / "none"))], Encoders())


def test_the_measure_of_a_prompt_is_the_models_own_probability(clip: Path, looking: Vlm):
    gate = PromptGate(PromptSection(bundle=str(clip), **TEXTS), looking)
    gate.look(seen(picture(3)))
    texts = [*TEXTS["prompts"], *TEXTS["against"]]
    chances = dict(looking.classify(picture(3), texts, template="{}"))
    assert gate.measure == pytest.approx(chances["a red boat"], abs=1e-6)


def scored(looking: Vlm) -> list[tuple[float, np.ndarray]]:
    """Pictures by the probability of the prompt, ascending."""
    texts = [*TEXTS["prompts"], *TEXTS["against"]]
    found = []
    for seed in range(12):
        image = picture(seed)
        chances = dict(looking.classify(image, texts, template="{}"))
        found.append((chances[texts[0]], image))
    return sorted(found, key=lambda pair: pair[0])


def test_a_prompt_opens_at_the_threshold_and_closes_below_the_release(clip: Path, looking: Vlm):
    (low, away), *_, (middle, still), (high, there) = scored(looking)
    assert low < middle < high
    section = PromptSection(
        bundle=str(clip), **TEXTS, threshold=(middle + high) / 2, release=(low + middle) / 2
    )
    gate = PromptGate(section, looking)
    said = [gate.look(seen(image)) for image in (away, still, there, still, away, still)]
    assert said == ["absent", "absent", "new", "new", "absent", "absent"]


def test_a_prompt_is_looked_for_in_its_area(clip: Path, looking: Vlm):
    left, right = picture(4), picture(5)
    area = {"left": 0.5, "top": 0, "right": 1, "bottom": 1}
    gate = PromptGate(PromptSection(bundle=str(clip), **TEXTS, area=area), looking)
    gate.look(seen(np.hstack([left, right])))
    texts = [*TEXTS["prompts"], *TEXTS["against"]]
    chances = dict(looking.classify(right, texts, template="{}"))
    assert gate.measure == pytest.approx(chances["a red boat"], abs=1e-6)


def test_a_frame_without_what_is_waited_for_is_dropped_and_an_unchanged_one_not_looked_at_again(
    clip: Path, looking: Vlm, scripted, passes
):
    (low, away), *_, (high, there) = scored(looking)
    images = [away, away, away, there, there, away]
    config = make_config({
        "bundle": "-", "ask": "What?", "source": {"uri": "-"}, "engine": {"threads": 1},
        "gates": [
            {"kind": "pixel"},
            {"kind": "prompt", "bundle": str(clip), **TEXTS, "threshold": (low + high) / 2},
        ],
    })  # fmt: skip
    passes.clear()
    *_, summary = Stream(config, Pictures(images), scripted()).events()
    assert summary.frames.dropped == {"absent": 4}
    assert (summary.frames.answered, summary.frames.reused) == (1, 1)
    pixel, prompt = summary.gates["main"]
    assert (pixel.asked, pixel.stopped) == (6, 3)
    assert (prompt.asked, prompt.stopped) == (3, 2)
    assert prompt.measure.p50 is not None
    assert len(passes) == 4  # three of the prompt, one of the answer


def test_a_bundle_that_cannot_embed_texts_is_refused(tiny: Bundle):
    section = PromptSection(bundle=str(tiny.root), **TEXTS)
    with pytest.raises(ContractError, match="no text encoder beside a picture embedding"):
        open_chain([section], Encoders())


def test_a_model_that_chooses_among_texts_needs_something_to_choose_against(looking: Vlm):
    section = PromptSection(bundle="-", prompts=("a red boat",))
    with pytest.raises(ConfigError, match="against ="):
        PromptGate(section, looking)


def test_a_text_that_is_too_long_is_refused_before_the_stream_begins(looking: Vlm):
    section = PromptSection(bundle="-", prompts=("boat " * 60,), against=("a road",))
    with pytest.raises(ContextOverflow):
        PromptGate(section, looking)
