"""Are confidences shares of right answers? Drawn pictures whose answer is known.

``python -m benchmarks.confidence bundles/nano`` asks about every picture by schema and in words,
fits one temperature for fields and one for free answers on the first half of the pictures, and
prints the expected calibration error on the other half: with the model's own confidences, with the
temperatures that the bundle has, and with those just fitted. One JSON object a line.

Sources: On Calibration of Modern Neural Networks, Guo et al., 2017, equation 3 (expected
calibration error), section 4.2 (temperature scaling). The temperature minimises the negative
log-likelihood of "this answer is right".
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.runtime.device.evaluation.calibration import bins, calibration_error
from edgevlm.runtime.model.asking import Asking
from edgevlm.runtime.model.decode import Budget
from edgevlm.runtime.model.field_scores import Choice, field_scores
from edgevlm.runtime.model.inference import Inference
from edgevlm.runtime.model.load import open_backend
from edgevlm.runtime.model.messages import conversation
from edgevlm.runtime.model.turn import Turn
from edgevlm.tensors import Array

TEMPERATURES = np.geomspace(0.2, 50.0, 139)
SIZE = 256
THINGS = ("clock", "traffic light", "balloon", "envelope")
COLOURS = {"red": (200, 30, 30), "green": (30, 150, 50), "blue": (30, 60, 190), "grey": (120,) * 3}
BY_SCHEMA = (
    "Describe the picture as JSON: thing is what it shows, colour the colour behind it, night is "
    "true if the picture is dark, several is true if it shows more than one thing."
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "thing": {"enum": list(THINGS)},
        "colour": {"enum": list(COLOURS)},
        "night": {"type": "boolean"},
        "several": {"type": "boolean"},
    },
    "required": ["thing", "colour", "night", "several"],
    "additionalProperties": False,
}
IN_WORDS = "Does the picture show a clock, a traffic light, a balloon or an envelope?"
ANSWER_TOKENS = 12


@dataclass(frozen=True)
class Sample:
    """One answer: its confidence at each of ``TEMPERATURES``, and whether it was right."""

    confidence: Array
    right: bool


def drawn(count: int, seed: int) -> Iterator[tuple[Array, dict[str, Any]]]:
    """Pictures and what is true of them."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        thing, colour = random.choice(THINGS), random.choice(list(COLOURS))
        night, several = bool(random.integers(2)), bool(random.integers(2))
        base = np.array(COLOURS[colour]) * (0.3 if night else 1.0)
        picture = Image.new("RGB", (SIZE, SIZE), tuple(base.astype(int).tolist()))
        draw = ImageDraw.Draw(picture)
        side = 90 if several else int(random.integers(110, 200))
        corners = [(20, 30), (140, 40), (70, 150)][: 3 if several else 1]
        if not several:
            corners = [tuple(random.integers(0, SIZE - side, 2).tolist())]
        for left, top in corners:
            _THING[thing](draw, left, top, side, 0.45 if night else 1.0)
        noise = random.normal(0, 4, (SIZE, SIZE, 3))
        pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        truth = {"thing": str(thing), "colour": str(colour), "night": night, "several": several}
        yield pixels, truth


def _shade(light: float, *rgb: int) -> tuple[int, int, int]:
    red, green, blue = (int(value * light) for value in rgb)
    return red, green, blue


def _clock(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, light: float) -> None:
    middle, ink = (x + side / 2, y + side / 2), _shade(light, 20, 20, 20)
    draw.ellipse((x, y, x + side, y + side), _shade(light, 245, 245, 240), ink, max(3, side // 20))
    for hour in range(12):
        turn = math.tau * hour / 12
        ends = [
            (middle[0] + side * r * math.sin(turn), middle[1] - side * r * math.cos(turn))
            for r in (0.38, 0.44)
        ]
        draw.line(ends, ink, max(2, side // 40))
    draw.line([middle, (middle[0], middle[1] - side * 0.34)], ink, max(2, side // 30))
    draw.line([middle, (middle[0] + side * 0.22, middle[1] + side * 0.1)], ink, max(3, side // 22))


def _traffic_light(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, light: float) -> None:
    wide, lamp = side * 0.42, side * 0.26
    left = x + side * 0.29
    draw.rounded_rectangle((left, y, left + wide, y + side), side // 12, _shade(light, 30, 30, 30))
    for row, rgb in enumerate(((230, 40, 30), (240, 190, 40), (40, 200, 80))):
        top, start = y + side * (0.05 + 0.32 * row), left + (wide - lamp) / 2
        draw.ellipse((start, top, start + lamp, top + lamp), rgb)


def _balloon(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, light: float) -> None:
    middle = x + side / 2
    draw.line([(middle, y + side * 0.7), (middle, y + side)], _shade(light, 240, 240, 240), 2)
    body = (x + side * 0.2, y, x + side * 0.8, y + side * 0.75)
    draw.ellipse(body, _shade(light, 220, 60, 160))
    shine = (x + side * 0.32, y + side * 0.12, x + side * 0.45, y + side * 0.3)
    draw.ellipse(shine, _shade(light, 250, 200, 230))


def _envelope(draw: ImageDraw.ImageDraw, x: int, y: int, side: int, light: float) -> None:
    top, bottom, ink = y + side * 0.2, y + side * 0.8, _shade(light, 90, 80, 60)
    box = (x, top, x + side, bottom)
    draw.rectangle(box, _shade(light, 240, 230, 205), ink, max(2, side // 50))
    folds = [(x, top), (x + side / 2, y + side * 0.55), (x + side, top)]
    draw.line(folds, ink, max(2, side // 50))


_THING = {
    "clock": _clock, "traffic light": _traffic_light, "balloon": _balloon, "envelope": _envelope,
}  # fmt: skip


def sharpened(choice: Choice, temperature: float) -> Choice:
    """A choice's probabilities at another temperature; they are those of temperature 1."""
    weights = np.array([p for _, p in choice.legal]) ** (1 / temperature)
    weights /= weights.sum()
    pieces = (piece for piece, _ in choice.legal)
    return choice._replace(legal=tuple(zip(pieces, weights.tolist(), strict=True)))


def of_fields(model: Inference, picture: Array, truth: dict[str, Any]) -> dict[str, Sample]:
    """One answer by schema: a sample for each of its fields."""
    turn, asking = Turn(), Asking(schema=SCHEMA, budget=Budget(max_tokens=200))
    for _ in model.tokens(turn, conversation(picture, BY_SCHEMA, None, None), asking):
        pass
    answer, guide = model.answer(turn), turn.guide
    assert guide is not None
    assert answer.answer is not None
    scores = [
        field_scores(answer.text, [sharpened(choice, t) for choice in guide._choices])
        for t in TEMPERATURES.tolist()
    ]
    return {
        name: Sample(np.array([s[f"/{name}"] for s in scores]), answer.answer[name] == value)
        for name, value in truth.items()
    }


def in_words(model: Inference, picture: Array, truth: dict[str, Any]) -> Sample:
    """One free answer: right if it names the thing, and no other."""
    turn, asking = Turn(), Asking(budget=Budget(max_tokens=ANSWER_TOKENS))
    messages = conversation(picture, IN_WORDS, None, None)
    said = list(model.tokens(turn, messages, asking))
    text = model.answer(turn).text.lower()
    again = Turn()
    logits = model.follow(again, model.begin(again, messages), np.array(said))[0]
    chosen = logits[np.arange(len(said)), said].astype(np.float64)
    behind = logits.astype(np.float64) - logits.max(1, keepdims=True)
    confidence = []
    for t in TEMPERATURES.tolist():
        totals = np.log(np.exp(behind / t).sum(1))
        confidence.append(math.exp(float(((chosen - logits.max(1)) / t - totals).mean())))
    named = [thing for thing in THINGS if thing in text]
    return Sample(np.array(confidence), named == [truth["thing"]])


def fitted(samples: Sequence[Sample]) -> int:
    """Place in ``TEMPERATURES`` of the one under which right and wrong are most likely."""
    chances = np.clip([s.confidence for s in samples], 1e-6, 1 - 1e-6)
    right = np.array([s.right for s in samples])[:, None]
    likely = np.where(right, np.log(chances), np.log(1 - chances)).mean(0)
    return int(likely.argmax())


def report(kind: str, samples: Sequence[Sample], bundled: float | None) -> dict[str, Any]:
    """Fit on the first half, judge on the second."""
    half = len(samples) // 2
    chosen = fitted(samples[:half])
    held = samples[half:]
    right = np.array([s.right for s in held], np.float64)
    places = {"own": int(np.abs(TEMPERATURES - 1).argmin()), "fitted": chosen}
    if bundled is not None:
        places["bundled"] = int(np.abs(TEMPERATURES - bundled).argmin())
    found: dict[str, Any] = {
        "kind": kind, "fitted_on": half, "judged_on": len(held),
        "temperature": round(float(TEMPERATURES[chosen]), 2), "right": round(right.mean(), 3),
    }  # fmt: skip
    for name, place in places.items():
        confidence = np.array([s.confidence[place] for s in held])
        found[f"mean_{name}"] = round(float(confidence.mean()), 3)
        found[f"ece_{name}"] = round(calibration_error(bins(confidence, right > 0)) or 0.0, 3)
    return found


def main() -> None:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=int, default=110)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    bundle = open_bundle(chosen.bundle)
    spec = bundle.manifest.confidence
    plain = Bundle(bundle.root, bundle.manifest.model_copy(update={"confidence": None}))
    model = Inference(plain, open_backend("ort-cpu", threads=chosen.threads))
    fields: dict[str, list[Sample]] = {name: [] for name in SCHEMA["properties"]}
    words: list[Sample] = []
    for picture, truth in drawn(chosen.pictures, seed=5):
        for name, sample in of_fields(model, picture, truth).items():
            fields[name].append(sample)
        words.append(in_words(model, picture, truth))
    model.close()
    together = [sample for samples in zip(*fields.values(), strict=True) for sample in samples]
    scales = (None, None) if spec is None else (spec.fields, spec.answers)
    for kind, samples, scale in (
        ("fields", together, scales[0]),
        *((f"field {name}", samples, scales[0]) for name, samples in fields.items()),
        ("answers in words", words, scales[1]),
    ):
        found = report(kind, samples, scale)
        print(json.dumps({"bundle": bundle.manifest.name, **found}), flush=True)


if __name__ == "__main__":
    main()
