"""Everything that both lessons stand on, and what comes out of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgevlm.export.gguf_file import GgufFile
from edgevlm.export.nano import packages
from edgevlm.export.nano.scene_part import WORDS
from edgevlm.export.nano_data.picture import Question
from edgevlm.export.nano_train.cache import Cache, Told
from edgevlm.export.nano_train.conversing import answer_loss
from edgevlm.export.nano_train.heads import SIDES, NanoHeads
from edgevlm.export.nano_train.imagined import Imagined, imagine, imagined_tokens
from edgevlm.export.nano_train.language import language_model, save_corrections
from edgevlm.export.nano_train.lesson import Lesson
from edgevlm.export.nano_train.packing import Packer, label_sentence
from edgevlm.export.nano_train.perceiving import Perceiving
from edgevlm.export.nano_train.scene_words import scene_words
from edgevlm.export.nano_train.seeing import Seeing, folded, moments
from edgevlm.export.nano_train.settings import Settings
from edgevlm.export.nano_train.sources import CUT_OUTS, OTHERS, asker
from edgevlm.export.nano_train.telling import guessed, shared, telling, things_in, unnamed
from edgevlm.export.nano_train.words import Lexicon, Words
from edgevlm.export.tokenizer_gguf import build_tokenizer
from edgevlm.scene_text import NOTHING, UNNAMED, scene_text
from edgevlm.tensors import Array

HEADS_FILE, LORA_FILE = "heads.safetensors", "lora.safetensors"
_OTHERS_SHARE = 0.08  # of a batch; none of a small one
_MOMENTS_OF = 500
_SIDES_CHOSEN = (0.12, 0.12, 0.16, 0.35, 0.25)  # how often each budget is taught
_WEIGHTS = {"rehearsal": 0.3, "pictures": 0.5, "token names": 0.5}
_WRONG_LABELS = 0.3  # share of imagined scenes whose labels name what is not there
_UNTOLD = ("in box", "json")  # the text gives no boxes
_OF_LABELS = ("presence", "name", "unanswerable")  # what labels alone can answer
# How often a kind of question is chosen, against 1 for the others.
_CHOSEN = {"count": 1.5, "colour": 1.5, "where": 1.5, "larger": 1.2, "in box": 0.5, "describe": 0.5,
           "json": 0.5, "unanswerable": 0.8, "number": 2.0, "text": 1.0}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """Some pictures of a batch."""

    arrays: dict[str, Array]
    told: list[Told]


class School:
    """Data, heads and words of one run; ``model`` is the language model once it is taught.

    Args:
        settings: of the run.
        caches: folder of the complete caches.
        folder: of the run, for what is kept.
    """

    def __init__(self, settings: Settings, caches: Path, folder: Path) -> None:
        torch.set_num_threads(settings.threads)
        if settings.device != "cpu":
            torch.set_default_device(settings.device)
        torch.manual_seed(settings.seed)
        self.settings, self._folder = settings, folder
        self._gguf = GgufFile(packages.DECODER.locate())
        self.tokenizer = build_tokenizer(self._gguf.metadata)
        table = np.asarray(self._gguf.get("embed_tokens.weight"), np.float32)
        words = Words(table, self.tokenizer)
        pictures = settings.pictures
        self._caches = (
            Cache(caches / CUT_OUTS, pictures.cut_outs), Cache(caches / OTHERS, pictures.others),
        )  # fmt: skip
        told = {name for cache in self._caches for t in cache.told for name in t.names}
        classes = packages.class_names()
        self.lexicon = Lexicon(words, sorted(told | set(asker().vocabulary)), classes)
        self._classes = classes
        self._imaginable = [*self.lexicon.things, *classes, *classes][1:]
        self.seeing = Seeing(words, {})
        some = np.arange(0, pictures.cut_outs, max(1, pictures.cut_outs // _MOMENTS_OF))
        self.seeing.moments = moments(self.seeing.stages(self._caches[0].batch(some)))
        places = torch.tensor([self.lexicon.place[c] for c in classes])
        self.perceiving = Perceiving(self.seeing, self.lexicon, places)
        self.packer = Packer(
            self.tokenizer, int(self._gguf.metadata["tokenizer.ggml.eos_token_id"])
        )
        self.heads = NanoHeads()
        with torch.no_grad():
            self.heads.semantic.scale.fill_(math.log(10.0))

        self.model: Any = None

    def first(self) -> Iterator[int]:
        """The lesson without the language model."""
        chosen = self.settings.first
        groups = [{"params": list(self.heads.parameters()), "peak": chosen.rate}]
        lesson = Lesson(self._folder, "first", groups, {"heads": self.heads}, chosen.steps)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            rng = np.random.default_rng([self.settings.seed, 1, step])
            drawn = self._draw(chosen.batch, rng)
            with torch.autocast(self.settings.device, torch.bfloat16):
                found = self.perceiving.losses(self.heads, drawn.arrays, drawn.told, rng)
                return weighted(found), found

        yield from lesson.run(losses)
        self.save_heads()

    def second(self) -> Iterator[int]:
        """The lesson with the language model, which learns to read the connector."""
        chosen = self.settings.second
        model = language_model(self._gguf, chosen.rank, chosen.alpha, torch.bfloat16)
        self.model = model
        low_rank = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": list(self.heads.connector.parameters()), "peak": chosen.connector_rate},
            {"params": low_rank, "peak": chosen.rate},
        ]
        modules = {"connector": self.heads.connector, "model": model}
        lesson = Lesson(self._folder, "second", groups, modules, chosen.steps)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            rng = np.random.default_rng([self.settings.seed, 2, step])
            with torch.autocast(self.settings.device, torch.bfloat16):
                return self._answer(model, rng)

        for step in lesson.run(losses):
            yield step
            if step % 200 == 0 or step == chosen.steps:
                self.save_heads()
                save_corrections(model, self._folder / LORA_FILE, chosen.rank, chosen.alpha)

    def _answer(self, model: Any, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = self.settings.second
        side = int(rng.choice(SIDES, p=_SIDES_CHOSEN))
        drawn = self._draw(chosen.batch, rng)
        tokens = self.tokens(drawn.arrays, side)
        covers = drawn.arrays["cover"]
        sentences = [
            telling(told, cover, chosen.labelled, rng)
            for told, cover in zip(drawn.told, covers, strict=True)
        ]
        asked = [_chosen(t.questions, chosen.questions, rng) for t in drawn.told]
        if chosen.imagined:
            scenes = [self._imagined(n, rng) for n in range(chosen.imagined)]
            words = imagined_tokens(self.lexicon, [s for s, _ in scenes], side, rng)
            tokens = torch.cat([tokens, words + self.heads.connector.placed(side)])
            for scene, sentence in scenes:
                possible = asker().questions(scene.picture, rng)
                if UNNAMED in sentence or NOTHING in sentence:
                    possible = [q for q in possible if q.kind in _OF_LABELS]
                asked.append(_chosen(tuple(possible), chosen.questions, rng))
                sentences.append(sentence)
        packed = self.packer.pack(side * side, sentences, asked)
        loss, right = answer_loss(model, tokens, packed)
        told = {"answers": loss, "right": right}
        if chosen.words:
            cover = torch.as_tensor(drawn.arrays["cover"].astype(np.float32)) / 255
            seen = tokens[: chosen.batch]
            said = self.perceiving.token_losses(
                seen, side, cover, self.perceiving.things(drawn.told)
            )
            loss = loss + chosen.words * weighted(said)
            told |= said
        return loss, told

    def _imagined(self, number: int, rng: np.random.Generator) -> tuple[Imagined, str]:
        """A scene in words with its text; every other one has one thing that only labels name."""
        if number % 2 == 0:
            scene = imagine(self.lexicon, self._imaginable, rng)
            sentence = ""
            if rng.random() < _WRONG_LABELS:
                sentence = label_sentence(guessed(_one(self._classes, rng), self._classes, rng))
            return scene, shared(sentence, scene_text(things_in(scene.picture)))
        scene = imagine(self.lexicon, [_one(self._classes, rng)], rng, most=1)
        (thing,) = scene.picture.things
        labels = guessed(thing.name, self._classes, rng)
        things = unnamed(things_in(scene.picture)) if rng.random() < 0.7 else []
        return scene, shared(label_sentence(labels), scene_text(things))

    def tokens(self, arrays: dict[str, Array], side: int) -> Tensor:
        """Visual tokens of cached pictures, float32 ``(batch, side^2, hidden)``."""
        stages = self.seeing.stages(arrays)
        cells = self.heads.neck(self.seeing.standardised(stages))
        found: Tensor = self.heads.connector(cells, self.seeing.guess(stages.coarse, side), side)
        return found

    def _draw(self, count: int, rng: np.random.Generator) -> _Drawn:
        others = round(count * _OTHERS_SHARE)
        parts = []
        for cache, number in zip(self._caches, (count - others, others), strict=True):
            if not number:
                continue
            numbers = rng.integers(cache.count, size=number)
            parts.append((cache.batch(numbers), [cache.told[n] for n in numbers]))
        arrays = {name: np.concatenate([p[0][name] for p in parts]) for name in parts[0][0]}
        return _Drawn(arrays, [t for p in parts for t in p[1]])

    def save_heads(self) -> None:
        """Write the heads as ``export/nano`` reads them."""
        state = folded(self.heads, self.seeing.moments)
        tensors = {n: t.to("cpu", torch.float16).contiguous() for n, t in state.items()}
        save_file(tensors, self._folder / HEADS_FILE)
        words = scene_words(asker().vocabulary, self._classes).model_dump_json(indent=0)
        (self._folder / WORDS).write_text(words + "\n", "utf-8")


def weighted(losses: dict[str, Tensor]) -> Tensor:
    """The sum that the first lesson minimises."""
    return torch.stack([_WEIGHTS.get(name, 1.0) * value for name, value in losses.items()]).sum()


def _one(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _chosen(
    questions: tuple[Question, ...], count: int, rng: np.random.Generator
) -> list[Question]:
    """Some of them, no two the same."""
    questions = tuple(q for q in questions if q.kind not in _UNTOLD)
    chance = np.array([_CHOSEN.get(q.kind, 1.0) for q in questions])
    count = min(count, len(questions))
    picked = rng.choice(len(questions), count, replace=False, p=chance / chance.sum())
    return [questions[n] for n in picked]
