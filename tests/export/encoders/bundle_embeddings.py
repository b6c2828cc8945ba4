"""What a bundle makes of pictures and texts, in a process that has never seen torch.

``python -m tests.export.encoders.bundle_embeddings BUNDLE CASES.json OUT.npz``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edgevlm.runtime.model.load import load


def main(arguments: list[str]) -> None:
    """Write pixels, every output of the vision graph, text embeddings and probabilities."""
    bundle, cases, out = map(Path, arguments)
    asked = json.loads(cases.read_text())
    results: dict[str, np.ndarray] = {}
    with load(bundle, threads=2, spin=False) as model:
        for name, path in asked["images"].items():
            encoded = model.encode(path)
            results[f"{name}.pixels"] = encoded.pixels[0]
            results |= {f"{name}.{key}": value for key, value in encoded.outputs.items()}
            if asked["texts"]:
                chances = dict(model.classify(path, asked["texts"], template="{}"))
                results[f"{name}.chances"] = np.array([chances[t] for t in asked["texts"]])
        if asked["texts"]:
            results["text_embeds"] = model.encode_text(asked["texts"])
    assert "torch" not in sys.modules
    assert "transformers" not in sys.modules
    np.savez(out, **results)


if __name__ == "__main__":
    main(sys.argv[1:])
