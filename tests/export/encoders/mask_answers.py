"""What a bundle makes of points and boxes, in a process that has never seen torch.

``python -m tests.export.encoders.mask_answers BUNDLE QUESTIONS.json OUT.npz``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgevlm.runtime.model.load import load


def main(arguments: list[str]) -> None:
    """Write embeddings, masks and scores of every question."""
    bundle, questions, out = map(Path, arguments)
    results: dict[str, np.ndarray] = {}
    with load(bundle, threads=2, spin=False) as model:
        for n, case in enumerate(json.loads(questions.read_text())):
            encoded = model.encode(case["image"])
            for name, value in encoded.outputs.items():
                results[f"{n}.{name}"] = value
            for several in (True, False):
                found = model.masks(encoded, several=several, **case["prompts"])
                results[f"{n}.{several}.masks"] = found.masks
                results[f"{n}.{several}.logits"] = found.logits
                results[f"{n}.{several}.scores"] = found.scores
            if texts := case.get("texts"):  # from the same pass of the encoder
                chances = dict(model.classify(encoded, texts, template="{}"))
                results[f"{n}.chances"] = np.array([chances[text] for text in texts])
                embeds = model.encode_text(texts)
                results[f"{n}.patch_map"] = encoded.outputs["patch_embeds"][0] @ embeds.T
    assert "torch" not in sys.modules
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1:])
