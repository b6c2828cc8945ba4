"""Florence-2: an encoder-decoder with task prompts and generation rules of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from edgevlm.bundle import open_bundle
from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT, StaticLowering
from edgevlm.errors import CheckpointError, ConfigError, ContextOverflow, ContractError
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.models.florence2_prompt import ABOUT, ALONE
from edgevlm.export.pipeline import export
from edgevlm.runtime.model.load import load
from edgevlm.runtime.model.vlm import Vlm
from tests import oracles
from tests.export.targets import lowered
from tests.export.tiny import refused
from tests.export.vlm import STEPS, conversations, tiny

GROUNDING = "<CAPTION_TO_PHRASE_GROUNDING> two boats at a pier"
CASES: dict[str, tuple[str | None, str]] = {
    "wide, caption": ("wide", "<CAPTION>"),
    "tall, objects": ("tall", "<OD>"),
    "photo, grounding": ("photo", GROUNDING),
    "small, free text": ("small", " Which of them is older? "),
    "no picture": (None, "Tell me of the sea."),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint and its bundle."""
    root = tmp_path_factory.mktemp("florence2")
    tiny.florence2(root / "checkpoint")
    export(str(root / "checkpoint"), root / "bundle", ExportOptions())
    return root


@pytest.fixture(scope="module")
def asked(root: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What transformers and what the bundle make of the same questions."""
    folder = root / "asked"
    folder.mkdir()
    cases = []
    for name, text in CASES.values():
        images = [] if name is None else [conversations.picture(folder, name)]
        turn = conversations.turn("user", *["IMAGE"] * len(images), text)
        cases.append({"images": images, "text": text, "messages": [turn]})
    questions = folder / "conversations.json"
    questions.write_text(json.dumps(cases))
    oracles.run(
        "tests.export.vlm.source_answers", root / "checkpoint", questions, root / "source.npz"
    )
    oracles.run(
        "tests.export.vlm.bundle_answers", root / "bundle", questions, root / "bundle.npz",
        oracles=False,
    )  # fmt: skip
    return dict(np.load(root / "source.npz")), dict(np.load(root / "bundle.npz"))


@pytest.fixture(scope="module")
def model(root: Path) -> Vlm:
    """The loaded bundle."""
    with load(root / "bundle", threads=2, spin=False) as model:
        yield model


@pytest.mark.parametrize("number", range(len(CASES)), ids=list(CASES))
def test_prompt_logits_and_answer_are_those_of_transformers(
    asked: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], number: int
):
    source, bundle = asked
    np.testing.assert_array_equal(bundle[f"{number}.ids"], source[f"{number}.ids"])
    assert np.abs(bundle[f"{number}.logits"] - source[f"{number}.logits"]).max() < 1e-3
    tokens = bundle[f"{number}.tokens"]
    np.testing.assert_array_equal(tokens, source[f"{number}.tokens"])
    assert tokens[0] == 0  # the forced beginning
    assert tokens[-1] == 1  # the forced end
    assert len(tokens) == STEPS


@pytest.mark.parametrize("lowering", [ONNX_STD, TRT10_COMPAT])
def test_lowered_for_engines_it_says_what_it_said(
    root: Path,
    asked: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    lowering: StaticLowering,
    tmp_path: Path,
):
    _, bundle = asked
    found = lowered.answers(root, root / "asked" / "conversations.json", lowering, tmp_path)
    for number, tokens in enumerate(found):
        np.testing.assert_array_equal(tokens, bundle[f"{number}.tokens"])


def test_the_certificate_has_the_tower_the_projection_and_the_encoder(root: Path):
    parity = json.loads((root / "bundle" / "parity.json").read_text())
    backend = parity["backends"][0]
    stages = {s["stage"]: s for s in backend["stages"]}
    assert set(stages) == {
        "vision.features", "vision.visual_tokens", "encoder.encoded", "hidden.first", "hidden.last",
    }  # fmt: skip
    assert all(s["max_abs"] < 1e-3 for s in stages.values())
    assert backend["greedy"]["agreed"] == backend["greedy"]["steps"] == 32


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_smaller_precisions_keep_their_gates(precision: str, root: Path, tmp_path: Path):
    done = export(str(root / "checkpoint"), tmp_path / "b", ExportOptions(precision=precision))
    assert done.certificate.passed
    graphs = done.manifest.graphs
    assert graphs["decoder"].precision == precision
    assert graphs["encoder"].precision == ("int8" if precision == "int4" else precision)
    with load(tmp_path / "b", threads=2, spin=False) as model:
        assert model.ask(np.zeros((9, 7, 3), np.uint8), "<CAPTION>", max_tokens=4).token_ids[0] == 0


def other_head(folder: Path) -> None:
    """A head of its own, and embeddings that are scaled."""
    change(folder, "config.json", lambda c: c.update(tie_word_embeddings=False))
    change(folder, "config.json", lambda c: c["text_config"].update(scale_embedding=True))
    tensors = load_file(folder / "model.safetensors")
    table = tensors["model.language_model.shared.weight"]
    random = np.random.default_rng(4).normal(0, 0.1, table.shape)
    save_file(tensors | {"lm_head.weight": random.astype(np.float32)}, folder / "model.safetensors")


def change(folder: Path, name: str, how: Callable[[dict], object]) -> None:
    """Rewrite one JSON file."""
    content = json.loads((folder / name).read_text())
    how(content)
    (folder / name).write_text(json.dumps(content))


def test_a_head_of_its_own_and_scaled_embeddings(tmp_path: Path):
    tiny.florence2(tmp_path / "checkpoint")
    other_head(tmp_path / "checkpoint")
    done = export(str(tmp_path / "checkpoint"), tmp_path / "bundle", ExportOptions())
    spec = done.manifest.seq2seq
    assert not spec.tied_head
    assert spec.embed_scale == pytest.approx(np.sqrt(96))
    assert done.certificate.passed  # against transformers, which read the same files


def test_an_answer_depends_on_nothing_that_was_asked_before(model: Vlm):
    picture = np.random.default_rng(1).integers(0, 256, (31, 47, 3), np.uint8)
    first = model.ask(picture, "<OD>", max_tokens=9)
    model.ask(picture, GROUNDING, max_tokens=12)
    assert model.ask(picture, "<OD>", max_tokens=9).token_ids == first.token_ids
    assert "".join(model.stream(picture, "<OD>", max_tokens=9)) == first.text


def test_rows_of_an_answer_come_one_by_one_or_together(model: Vlm):
    decoder, table = model._inference._decoder, model._inference._table
    decoder.rewind(0)
    decoder.append(table.rows([5, 6, 7, 8]))
    apart = np.concatenate([decoder.append(table.rows([t])).copy() for t in (10, 11, 12)])
    assert decoder.length == 4
    decoder.rewind(1)
    together = decoder.append(table.rows([10, 11, 12]), logits=3)
    np.testing.assert_allclose(together, apart, atol=1e-4)
    with pytest.raises(ContractError, match="cannot rewind to 9: the cache holds 4"):
        decoder.rewind(9)
    with pytest.raises(ContractError, match="2 rows of logits from 1 rows"):
        decoder.append(table.rows([3]), logits=2)
    with pytest.raises(ContextOverflow, match="164 tokens do not fit the decoder's 160"):
        decoder.append(table.rows([3] * 160))
    decoder.rewind(0)
    with pytest.raises(ContractError, match="the prompt is empty"):
        decoder.append(table.rows([]))


def test_an_end_that_was_forced_is_no_stop(model: Vlm):
    answer = model.ask(np.zeros((9, 9, 3), np.uint8), "<CAPTION>", max_tokens=5)
    assert answer.token_ids[-1] == 1
    assert answer.finish_reason == "length"


def test_a_long_answer_ends_with_the_decoders_positions(model: Vlm):
    answer = model.ask(question="<CAPTION>", max_tokens=1000)
    capacity = model.bundle.manifest.kv.capacity
    assert len(answer.token_ids) <= capacity == 160
    assert answer.token_ids[-1] == 1


def test_a_prompt_beyond_the_encoders_positions_is_refused(model: Vlm):
    with pytest.raises(ContextOverflow, match="and the encoder takes 160: shorten the question"):
        model.ask(question="word " * 300)


@pytest.mark.parametrize(
    ("pictures", "question", "system", "message"),
    [
        (2, "<OD>", None, "Florence-2 takes one picture, got 2"),
        (1, "<OD> boats", None, "the task <OD> stands alone"),
        (1, "<OD>", "Be brief.", "Florence-2 takes one user turn"),
    ],
)
def test_what_the_processor_refuses_is_refused(
    model: Vlm, pictures: int, question: str, system: str | None, message: str
):
    image = [np.zeros((9, 9, 3), np.uint8)] * pictures
    with pytest.raises(ContractError, match=message):
        model.ask(image, question, system=system)


def test_every_task_expands_as_in_the_processor(model: Vlm, monkeypatch: pytest.MonkeyPatch):
    from transformers import Florence2Processor, ProcessorMixin

    monkeypatch.setattr(ProcessorMixin, "__init__", lambda *_, **__: None)
    words = Mock(all_special_tokens=(), image_seq_length=3)
    processor = Florence2Processor(image_processor=words, tokenizer=words)
    assert processor.task_prompts_without_inputs == ALONE
    assert processor.task_prompts_with_input == ABOUT
    reader = model._inference._reader
    for task in [*ALONE, *(f"{task} <loc_1> a {{input}} 'b' \\n" for task in ABOUT)]:
        (ids,) = reader.prompts.build([{"role": "user", "content": task}]).texts
        (wanted,) = processor._construct_prompts(task)
        assert list(ids) == reader.tokenizer.encode(wanted, add_special_tokens=False).ids


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a picture that is cropped": (
        lambda f: change(f, "preprocessor_config.json", lambda c: c.update(do_center_crop=True)),
        "an image processor that crops is not supported",
    ),
    "too few positions for a picture": (
        lambda f: change(f, "preprocessor_config.json",
                         lambda c: c.update(size={"height": 96, "width": 64})),
        "the picture becomes 12x8 patches; there are positions for 11x11",
    ),
    "a picture longer than the encoder": (
        lambda f: change(f, "preprocessor_config.json",
                         lambda c: c.update(size={"height": 104, "width": 104})),
        "a picture is 170 rows, and the encoder takes 160",
    ),
    "another text model": (
        lambda f: change(f, "config.json", lambda c: c.update(
            text_config={"model_type": "mbart", "d_model": 96})),
        "the text model 'mbart' is not known",
    ),
    "heads of an odd width": (
        lambda f: change(f, "config.json",
                         lambda c: c["text_config"].update(decoder_attention_heads=8)),
        "the decoder's heads are 12 wide; the attention operator takes multiples of 8",
    ),
    "fewer layers in the config": (
        lambda f: change(f, "config.json", lambda c: c["text_config"].update(decoder_layers=2)),
        "more decoder layers than the 2 of its configuration",
    ),
    "another width in the tower": (
        lambda f: change(f, "config.json",
                         lambda c: c["vision_config"].update(embed_dim=[12, 24, 20])),
        r"convs.2.conv.weight has the shape \(40, 24, 3, 3\); the configuration asks \(20, 24",
    ),
    "a rule that nobody knows": (
        lambda f: change(f, "generation_config.json", lambda c: c.update(min_length=4)),
        "asks for min_length = 4, which is not supported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_checkpoint_is_refused_with_the_reason(kind: str, root: Path, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for path in (root / "checkpoint").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    spoil, message = BAD[kind]
    spoil(source)
    with pytest.raises(CheckpointError, match=message):
        raise refused(source, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 64}, "--image-size 64: this checkpoint takes 56x72"),
        ({"max_context": 161}, "--max-context 161: checkpoint answers in 33 to 160 tokens"),
        ({"tokens": 4}, "--tokens: florence2 gives"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    options: dict[str, int], message: str, root: Path, tmp_path: Path
):
    with pytest.raises(ConfigError, match=message):
        raise refused(root / "checkpoint", tmp_path, **options)


def test_a_smaller_context_makes_a_smaller_cache(root: Path, tmp_path: Path):
    export(str(root / "checkpoint"), tmp_path / "bundle", ExportOptions(max_context=40))
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.kv.capacity == 40
    assert manifest.memory.kv_cache == 40 * 3 * 2 * 96 * 4
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    with load(tmp_path / "bundle", threads=2, spin=False) as model:
        assert len(model.ask(tmp_path / "a.png", "<OD>", max_tokens=99).token_ids) == 40


def test_a_schema_is_refused_and_drafts_are_not_made(root: Path, tmp_path: Path):
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    with load(root / "bundle", threads=2, spin=False) as model:
        with pytest.raises(ContractError, match="an encoder-decoder takes no schema"):
            model.ask(tmp_path / "a.png", "<OD>", schema={"type": "object"})
        alone = [model.ask(tmp_path / "a.png", t, max_tokens=9) for t in ("<OD>", "<CAPTION>")]
        assert [a.tokens.drafted for a in alone] == [0, 0]
        many = model.ask_many(tmp_path / "a.png", ["<OD>", "<CAPTION>"], max_tokens=9)
        assert [a.token_ids for a in many] == [a.token_ids for a in alone]
