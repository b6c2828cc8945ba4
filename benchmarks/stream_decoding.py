"""What streams save in decoding: drafts, answers by schema, several questions about one picture.

``python -m benchmarks.stream_decoding bundles/nano`` measures every way in turn (A B A B) over
different pictures and prints medians, and medians of the ratios of each picture, one JSON object a
line. ``--smolvlm FOLDER``
writes a random checkpoint of SmolVLM-256M's shape with the bundle's tokenizer, exports it into the
folder (again only if it is not there) and measures that instead.

Plain decoding is one step for every token of the very same answer. What is a random model's text
costs what any text costs; only the share of drafts that are right says nothing there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.real_size_export import write_checkpoint
from edgevlm.answer import Answer
from edgevlm.bundle import open_bundle
from edgevlm.export.model_parts import ExportOptions
from edgevlm.export.pipeline import export
from edgevlm.runtime.model.draft import Drafts
from edgevlm.runtime.model.inference import Inference
from edgevlm.runtime.model.load import load, open_backend
from edgevlm.runtime.model.messages import conversation
from edgevlm.runtime.model.turn import Turn
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.tensors import Array

QUESTION = "Describe the picture as JSON."
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "time_of_day": {
            "enum": ["early morning", "broad daylight", "evening", "night time", "cannot tell"]
        },
        "person_near_the_door": {"type": "boolean"},
        "vehicle_in_the_driveway": {
            "enum": ["no vehicle", "passenger car", "delivery van", "motorcycle", "cannot tell"]
        },
        "package_left_at_the_door": {"type": "boolean"},
    },
    "required": [
        "time_of_day", "person_near_the_door", "vehicle_in_the_driveway",
        "package_left_at_the_door",
    ],
    "additionalProperties": False,
}  # fmt: skip
QUESTIONS = (
    "What is the main thing?", "Where is it?", "Is a person there?", "What colour is it?",
)  # fmt: skip
ANSWER_TOKENS = 8
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def pictures(count: int, size: int = 224) -> Iterator[Array]:
    """Pictures that differ in everything: coloured rectangles on noise."""
    random = np.random.default_rng(11)
    for _ in range(count):
        picture = random.integers(0, 255, (size, size, 3), np.uint8)
        for _ in range(6):
            top, left = random.integers(0, size - 40, 2)
            height, width = random.integers(30, size // 2, 2)
            picture[top : top + height, left : left + width] = random.integers(0, 255, 3)
        yield picture


def camera(count: int, size: int = 224) -> Iterator[Array]:
    """A scene that stands still, with the noise of a sensor."""
    (scene,) = pictures(1, size)
    random = np.random.default_rng(12)
    for _ in range(count):
        noise = random.normal(0, 3, scene.shape)
        yield np.clip(scene + noise, 0, 255).astype(np.uint8)


def pass_costs(inference: Inference, runs: int) -> dict[str, float]:
    """Time of a pass of so many rows over the time of a step of one token, medians."""
    decoder, table = inference._decoder, inference._table
    rows = table.rows([(31 * n) % 997 for n in range(160)])
    decoder.rewind(0)
    decoder.append(rows[:100])
    seconds: dict[int, list[float]] = {count: [] for count in ROWS}
    for _ in range(runs):
        for count in ROWS:
            decoder.rewind(100)
            begun = time.perf_counter()
            decoder.append(rows[100 : 100 + count], count)
            seconds[count].append(time.perf_counter() - begun)
    decoder.rewind(0)
    step = statistics.median(seconds[1])
    found = {str(count): statistics.median(spent) / step for count, spent in seconds.items()}
    return {"step_ms": round(1e3 * step, 2)} | {k: round(v, 2) for k, v in found.items()}


def plainly(inference: Inference, picture: Array, answer: Answer) -> tuple[float, float]:
    """Milliseconds in all, and of decoding, for one step a token of ``answer``."""
    begun, turn = time.perf_counter(), Turn()
    rows = inference.begin(turn, conversation(picture, QUESTION, None, None))
    inference.follow(turn, rows, np.array(answer.token_ids[:1]))
    decoding = time.perf_counter()
    table, decoder = inference._table, inference._decoder
    for token in answer.token_ids[:-1]:
        decoder.append(table.rows([token])).argmax()
    done = time.perf_counter()
    return 1e3 * (done - begun), 1e3 * (done - decoding)


def by_schema(model: Vlm, inference: Inference, runs: int) -> dict[str, Any]:
    """Answers by schema, without drafts and with them, against plain decoding of the same text."""
    ways: dict[str, list[tuple[float, float]]] = {"plain": [], "schema": [], "drafted": []}
    drafts, forced, output = Drafts(), 0, 0
    for number, picture in enumerate(pictures(runs + 2)):
        answer = model.ask(picture, QUESTION, schema=SCHEMA, max_tokens=200, draft=False)
        timing = answer.timings_ms
        drafted = model.ask(picture, QUESTION, schema=SCHEMA, max_tokens=200, draft=drafts)
        assert drafted.token_ids == answer.token_ids
        plain = plainly(inference, picture, answer)
        if number < 2:
            continue  # warming up
        ways["plain"].append(plain)
        ways["schema"].append((timing.total, timing.decode))
        ways["drafted"].append((drafted.timings_ms.total, drafted.timings_ms.decode))
        forced, output = forced + answer.tokens.forced, output + answer.tokens.output
    total = {way: statistics.median(t for t, _ in spent) for way, spent in ways.items()}
    decode = {way: statistics.median(d for _, d in spent) for way, spent in ways.items()}
    found = {
        "tokens": output / runs,
        "forced": forced / runs,
        "total_ms": _rounded(total),
        "decode_ms": _rounded(decode),
    }
    for way, name in (("schema", ""), ("drafted", "_drafted")):
        for part, what in enumerate(("answers", "decode")):
            pairs = zip(ways["plain"], ways[way], strict=True)
            found[f"{what}_ratio{name}"] = _ratio([(p[part], w[part]) for p, w in pairs])
    return found


def many(model: Vlm, runs: int) -> dict[str, Any]:
    """Four questions about one picture over one question: side by side, and one after another."""
    one, four, apart = [], [], []
    for number, picture in enumerate(pictures(runs + 1)):
        question = QUESTIONS[number % len(QUESTIONS)]
        spent = _ms(partial(model.ask, picture, question, max_tokens=ANSWER_TOKENS))
        ask_many = partial(model.ask_many, picture, QUESTIONS, max_tokens=ANSWER_TOKENS)
        together = _ms(ask_many)
        one_by_one = _ms(partial(ask_many, together=False))
        if number:
            one.append(spent)
            four.append(together)
            apart.append(one_by_one)
    found = {"one_ms": statistics.median(one), "four_ms": statistics.median(four)}
    return _rounded(found) | {
        "ratio": _ratio(zip(four, one, strict=True)),
        "ratio_one_after_another": _ratio(zip(apart, one, strict=True)),
    }


def fixed_camera(model: Vlm, runs: int) -> dict[str, Any]:
    """A scene that stands still, every frame answered: with the last answers as drafts, without."""
    drafts, ways = Drafts(), {"plain": list[float](), "drafted": list[float]()}
    made = right = output = 0
    for number, picture in enumerate(camera(runs + 1)):
        plain = model.ask(picture, "What is in the picture?", max_tokens=32, draft=False)
        drafted = model.ask(picture, "What is in the picture?", max_tokens=32, draft=drafts)
        assert drafted.token_ids == plain.token_ids
        if number:
            ways["plain"].append(plain.timings_ms.prefill + plain.timings_ms.decode)
            ways["drafted"].append(drafted.timings_ms.prefill + drafted.timings_ms.decode)
            made, right = made + drafted.tokens.drafted, right + drafted.tokens.accepted
            output += drafted.tokens.output
    found = {f"{way}_ms": statistics.median(spent) for way, spent in ways.items()}
    return _rounded(found) | {
        "ratio": _ratio(zip(ways["plain"], ways["drafted"], strict=True)),
        "tokens": output / runs,
        "drafted": made / runs,
        "accepted": right / runs,
    }


def smolvlm(folder: Path, words: Path) -> Path:
    """A random bundle of SmolVLM-256M's shape, with another bundle's tokenizer."""
    target = folder / "smolvlm-256m-int4"
    if not (target / "manifest.json").is_file():
        if not (folder / "checkpoint" / "config.json").is_file():
            tokenizer = Tokenizer.from_file(str(words / "tokenizer.json"))
            write_checkpoint("smolvlm-256m", folder / "checkpoint", tokenizer)
        options = ExportOptions(precision="int4", calibrate=False, allow_drift=True)
        export(str(folder / "checkpoint"), target, options)
    return target


def _ms(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun)


def _ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of ratios of what was measured one behind the other, about one picture."""
    return round(statistics.median(one / other for one, other in pairs), 2)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


def main() -> None:
    """Measure one bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--smolvlm", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    path = smolvlm(chosen.smolvlm, chosen.bundle) if chosen.smolvlm else chosen.bundle
    backend = open_backend("ort-cpu", threads=chosen.threads)
    with load(path, threads=chosen.threads) as model:
        inference = Inference(open_bundle(path), backend)
        for name, measure in (
            ("rows of a pass over a step", lambda: pass_costs(inference, chosen.runs)),
            ("schema of 4 fields", lambda: by_schema(model, inference, chosen.runs)),
            ("4 questions over 1", lambda: many(model, chosen.runs)),
            ("fixed camera", lambda: fixed_camera(model, chosen.runs)),
        ):
            print(json.dumps({"bundle": path.name, "measured": name, **measure()}), flush=True)
        inference.close()


if __name__ == "__main__":
    main()
