"""What a bundle makes of conversations, in a process that has never seen torch.

``python -m tests.export.vlm.bundle_answers BUNDLE CONVERSATIONS.json OUT.npz``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgevlm.bundle import open_bundle
from edgevlm.runtime.model.inference import Inference
from edgevlm.runtime.model.load import load, open_backend
from edgevlm.runtime.model.turn import Turn
from tests.export.vlm import STEPS


def main(arguments: list[str]) -> None:
    """Write ids, logits and tokens of every conversation."""
    bundle, conversations, out = map(Path, arguments)
    cases = json.loads(conversations.read_text())
    results: dict[str, np.ndarray] = {}
    opened = open_bundle(bundle)
    inference = Inference(opened, open_backend("ort-cpu", threads=2, spin=False))
    for n, case in enumerate(cases):
        turn = Turn()
        rows = inference.begin(turn, with_pictures(case))
        results[f"{n}.ids"] = np.array(inference.prompt_ids(turn))
        logits, _ = inference.follow(turn, rows, np.zeros(1, np.int64))
        results[f"{n}.logits"] = logits[0]
    inference.close()
    with load(bundle, threads=2, spin=False) as model:
        for n, case in enumerate(cases):
            answer = model.ask(messages=with_pictures(case), max_tokens=STEPS)
            results[f"{n}.tokens"] = np.array(answer.token_ids)
    assert "torch" not in sys.modules
    assert "transformers" not in sys.modules
    np.savez(out, **results)


def with_pictures(case: dict) -> list[dict]:
    """The messages with their pictures in place, in order."""
    paths = iter(case["images"])
    return [
        {
            "role": message["role"],
            "content": [
                {"type": "image", "path": next(paths)} if part["type"] == "image" else part
                for part in message["content"]
            ],
        }
        for message in case["messages"]
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
