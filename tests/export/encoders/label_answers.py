"""What a bundle makes of pictures and labels, in a process that has never seen torch.

``python -m tests.export.encoders.label_answers BUNDLE QUESTIONS.json OUT.npz``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgevlm.runtime.model.load import load


def main(arguments: list[str]) -> None:
    """Write the outputs of every picture, embeddings of every text, and every probability."""
    bundle, questions, out = map(Path, arguments)
    asked = json.loads(questions.read_text())
    results: dict[str, np.ndarray] = {}
    with load(bundle, threads=2, spin=False) as model:
        results["texts"] = model.encode_text(asked["texts"])
        for n, image in enumerate(asked["images"]):
            encoded = model.encode(image)
            results |= {f"{n}.{name}": value for name, value in encoded.outputs.items()}
            chances = dict(model.classify(encoded, asked["texts"], template="{}"))
            results[f"{n}.chances"] = np.array([chances[text] for text in asked["texts"]])
    assert "torch" not in sys.modules
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1:])
