"""Encoder bundles in use: what they do, what they refuse, and what the commands say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevlm
from edgevlm.bundle.text import TextSpec
from edgevlm.cli.app import run_command
from edgevlm.config import make_config
from edgevlm.errors import ContextOverflow, ContractError
from edgevlm.runtime.model.label_scores import NONE, probabilities
from tests.core.tiny import export_tiny
from tests.export.encoders import tiny
from tests.export.vlm import conversations

LABELS = ["a boat", "a red hat", "two people", "grass"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP exported by the command, one picture of the user's own checked."""
    root = tmp_path_factory.mktemp("clip")
    tiny.clip(root / "checkpoint")
    (root / "pictures").mkdir()
    conversations.picture(root / "pictures", "tall")
    words = ["export", root / "checkpoint", "-o", root / "bundle", "--check-images",
             root / "pictures"]  # fmt: skip
    assert run_command(list(map(str, words))) == 0
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Iterator[edgevlm.Vlm]:
    """It, loaded."""
    with edgevlm.load(root / "bundle", threads=2, spin=False) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def picture(root: Path) -> str:
    """A picture's path."""
    return conversations.picture(root, "photo")


def test_labels_come_best_first_and_are_chosen_among(model: edgevlm.Vlm, picture: str):
    found = model.classify(picture, LABELS)
    chances = [chance for _, chance in found]
    assert sorted(label for label, _ in found) == sorted(LABELS)
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) == pytest.approx(1, abs=1e-6)
    whole = model.classify(picture, [f"a photo of {n}" for n in LABELS], template="{}")
    said = model.classify(picture, LABELS, template="a photo of {}")
    assert [c for _, c in said] == pytest.approx([c for _, c in whole], abs=1e-6)


def test_none_of_the_labels_is_one_more_choice(model: edgevlm.Vlm, picture: str):
    alone = dict(model.classify(picture, LABELS))
    found = dict(model.classify(picture, LABELS, none=["an object", "something else"]))
    assert set(found) == {*LABELS, NONE}
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)
    left = 1 - found[NONE]
    assert {n: p / left for n, p in found.items() if n != NONE} == pytest.approx(alone, abs=1e-5)
    again = dict(model.classify(picture, LABELS, none=["an object", "something else"]))
    assert again == found
    # A text of the kind that stands for none is as likely as none itself.
    same = dict(model.classify(picture, ["an object"], template="{}", none=["an object"]))
    assert same[NONE] == pytest.approx(0.5, abs=1e-6)
    assert set(dict(model.classify(picture, LABELS, none=True))) == {*LABELS, NONE}
    for none, labels, said in (
        ([""], LABELS, "stands for none of the labels is empty"),
        ([], LABELS, "got an empty one"),
        (["x"], [*LABELS, NONE], "is what `none` adds"),
    ):
        with pytest.raises(ContractError, match=said):
            model.classify(picture, labels, none=none)


def test_a_stream_is_classified_frame_by_frame(root: Path, picture: str):
    task = {"kind": "classify", "labels": LABELS, "none": True}
    source = {"uri": picture}
    made = make_config({"bundle": str(root / "bundle"), "source": source, "task": task})
    told, summary = list(edgevlm.run(made))
    assert (told.kind, told.question, told.finish_reason) == ("answer", "classify", "stop")
    assert told.answer is not None
    assert told.text == told.answer["label"] == told.answer["labels"][0]["label"]
    assert told.confidence == pytest.approx(told.answer["labels"][0]["probability"], abs=1e-4)
    assert summary.frames.answered == 1
    lacking = {**task, "kind": "segment", "none": False}
    made = make_config({"bundle": str(root / "bundle"), "source": source, "task": lacking})
    with pytest.raises(ContractError, match="which 'segment' needs"):
        next(edgevlm.run(made))


def test_a_long_list_of_labels_is_one_choice(model: edgevlm.Vlm, picture: str):
    labels = [f"{n}" for n in range(77)]
    texts = model.encode_text(labels)
    assert texts.shape == (77, 22)
    np.testing.assert_allclose(texts[70], model.encode_text([labels[70]])[0], atol=1e-6)
    chances = dict(model.classify(picture, labels, template="{}"))
    assert sum(chances.values()) == pytest.approx(1, abs=1e-5)


def test_one_pass_gives_every_output_and_no_visual_tokens(model: edgevlm.Vlm, picture: str):
    encoded = model.encode(picture)
    assert set(encoded.outputs) == {"embedding", "pooled", "features"}
    assert encoded.segments == ()
    assert np.linalg.norm(encoded.outputs["embedding"]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ContractError, match="no visual tokens, but embedding, pooled, features"):
        _ = encoded.tokens


@pytest.mark.parametrize("method", ["ask", "stream"])
def test_questions_are_refused_and_what_it_can_do_is_said(
    model: edgevlm.Vlm, picture: str, method: str
):
    wanted = "no language model.*this bundle can: encode, encode_text, classify"
    with pytest.raises(ContractError, match=wanted):
        getattr(model, method)(picture, "What is there?")


@pytest.mark.parametrize(
    ("labels", "more", "error", "message"),
    [
        ("boat", {}, ContractError, "must be a list of str, got str"),
        ([], {}, ContractError, "got an empty one"),
        (["boat", 3], {}, ContractError, "got one with int"),
        (LABELS, {"template": "a photo"}, ContractError, "has no place {} for the label"),
        (["very " * 40], {}, ContextOverflow, "and the text encoder takes 24: shorten it"),
        (["a boat", " "], {}, ContractError, "label 2 is empty"),
        (["a boat", "grass", "a boat"], {}, ContractError, "the label 'a boat' is there twice"),
        ([str(n) for n in range(10_000)], {}, ContractError, "10000 labels; at most 2000"),
    ],
    ids=["a word", "none", "a number", "no slot", "too long", "empty", "twice", "too many"],
)
def test_labels_that_do_not_fit_are_refused(
    model: edgevlm.Vlm, picture: str, labels: Any, more: dict[str, str], error: type, message: str
):
    with pytest.raises(error, match=message):
        model.classify(picture, labels, **more)


def test_the_command_takes_labels_from_a_file_or_says_what_is_wrong_with_them(
    root: Path, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "labels.txt"
    words = ["classify", str(root / "bundle"), picture, "--labels", str(file)]
    for text, code, said in (
        ("\n \n", 2, "holds no label: one a line"),
        ("a boat\ngrass\na boat\n", 1, "the label 'a boat' is there twice"),
        ("\n".join(map(str, range(10_000))), 1, "10000 labels; at most 2000"),
        ("a boat " * 1500, 1, "and the text encoder takes 24: shorten it"),
    ):
        file.write_text(text, "utf-8")
        assert run_command(words) == code
        assert said in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe\x00")
    assert run_command(words) == 2
    assert "cannot be read as text" in capsys.readouterr().err
    assert run_command([*words, "--label", "a boat"]) == 2
    file.write_text("a boat\ngrass\n", "utf-8")
    assert run_command([*words, "--none", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {one["label"] for one in said["labels"]} == {"a boat", "grass", NONE}
    assert said["none_calibrated"] is False


def test_a_language_model_without_encoders_names_what_is_missing(tmp_path: Path):
    bundle = export_tiny(tmp_path)
    with edgevlm.load(bundle.root, threads=2, spin=False) as text_model:
        with pytest.raises(ContractError, match="no text encoder, which 'encode_text' needs"):
            text_model.encode_text(["a"])
        with pytest.raises(ContractError, match="'classify' needs; this bundle can: ask"):
            text_model.classify(np.zeros((4, 4, 3), np.uint8), ["a"])


def test_verify_measures_it_again(root: Path, capfd: pytest.CaptureFixture[str]):
    assert run_command(["verify", str(root / "bundle"), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    backend = found["parity"]["backends"][0]
    stages = {stage["stage"] for stage in backend["stages"]}
    assert stages == {"vision.embedding", "vision.pooled", "vision.features", "text.text_embeds"}
    assert found["passed"]


def test_inspect_shows_its_graphs(root: Path, capfd: pytest.CaptureFixture[str]):
    assert run_command(["inspect", str(root / "bundle")]) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert "image 45x45 shortest" in out
    assert "text up to 24 tokens, embeddings of 22 numbers, softmax scores" in out
    assert "text_embeds" in out
    assert "vision.embedding" in out


def test_the_users_pictures_are_measured_and_not_kept(root: Path):
    parity = json.loads((root / "bundle" / "parity.json").read_text())
    backend = parity["backends"][0]
    assert [p["picture"] for p in backend["pictures"]] == ["tall.png"]
    assert not list((root / "bundle" / "probe").glob("check-*"))


@pytest.mark.parametrize(
    "words",
    [["ask", "BUNDLE", "PICTURE", "What is there?"], ["bench", "BUNDLE"],
     ["run", "--bundle", "BUNDLE", "--source", "PICTURE", "--ask", "What is there?"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_commands_that_need_a_language_model_refuse_it(
    root: Path, picture: str, words: list[str], capfd: pytest.CaptureFixture[str]
):
    places = {"BUNDLE": str(root / "bundle"), "PICTURE": picture}
    assert run_command([places.get(word, word) for word in words]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "has no language model" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("scores", "bias", "wanted"),
    [
        ("softmax", 0.0, [1 / (1 + np.exp(-200)), np.exp(-200) / (1 + np.exp(-200))]),
        ("sigmoid", 900.0, [1.0, 1.0]),
        ("sigmoid", -900.0, [0.0, 0.0]),
        ("sigmoid", 1.0, [1 / (1 + np.exp(-101)), 1 / (1 + np.exp(99))]),
    ],
)
def test_probabilities_never_overflow(scores: str, bias: float, wanted: list[float]):
    spec = TextSpec(
        context_length=4, width=2, pad_token_id=0, padding="longest", scores=scores,
        logit_scale=100.0, logit_bias=bias,
    )  # fmt: skip
    texts = np.array([[1, 0], [-1, 0]], np.float32)
    found = probabilities(np.array([1, 0], np.float32), texts, spec)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_frames_are_scored_for_a_question_by_cosine(model: edgevlm.Vlm, picture: str, root: Path):
    frames = [model.encode(picture), model.encode(conversations.picture(root, "tall"))]
    (text,) = model.encode_text(["is there a boat?"])
    wanted = [float(frame.outputs["embedding"][0] @ text) for frame in frames]
    assert model.relevance(frames, "is there a boat?") == pytest.approx(wanted, abs=1e-6)
    assert wanted[0] != wanted[1]


def test_the_command_names_labels_as_the_method_does(
    root: Path, model: edgevlm.Vlm, picture: str, capsys: pytest.CaptureFixture[str]
):
    words = ["classify", str(root / "bundle"), picture]
    given = [word for label in LABELS for word in ("--label", label)]
    assert run_command([*words, *given, "--top", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    wanted = model.classify(picture, LABELS)[:2]
    assert [(one["label"], one["probability"]) for one in said["labels"]] == [
        (name, round(chance, 4)) for name, chance in wanted
    ]
    file = root / "labels.txt"
    file.write_text("\n".join(["", *LABELS]) + "\n")
    assert run_command([*words, "--labels", str(file)]) == 0
    assert wanted[0][0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "labels come from --label"),
        (["--label", "a", "--labels", "there.txt"], 2, "labels come from --label"),
        (["--labels", "nowhere.txt"], 2, "nowhere.txt cannot be read as text"),
        (["--label", "a", "--label", "a"], 1, "the label 'a' is there twice"),
    ],
)
def test_the_command_refuses_labels_that_are_not_there(
    root: Path, picture: str, capsys: pytest.CaptureFixture[str],
    words: list[str], code: int, said: str,
):  # fmt: skip
    assert run_command(["classify", str(root / "bundle"), picture, *words]) == code
    assert said in capsys.readouterr().err
