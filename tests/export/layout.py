"""Graphs in the layout of onnx-community, run as anybody runs them: with onnxruntime alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from edgevlm.tensors import Array, Float32


def session(path: Path) -> onnxruntime.InferenceSession:
    """One graph on two threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class MergedDecoder:
    """``decoder_model_merged.onnx`` or ``model.onnx`` with the cache that it gives back.

    Args:
        path: of the graph.
        batch: rows of a batch.
    """

    def __init__(self, path: Path, batch: int = 1) -> None:
        self._session = session(path)
        self._past = {
            t.name: np.zeros(
                (batch, t.shape[1], 0, t.shape[3]),
                np.float16 if t.type == "tensor(float16)" else np.float32,
            )
            for t in self._session.get_inputs()
            if t.name.startswith("past_key_values.")
        }
        self._mask = np.zeros((batch, 0), np.int64)

    def __call__(self, mask: Array | None = None, **rows: Array) -> Float32:
        """Append ``input_ids`` or ``inputs_embeds``; logits at every one of them."""
        (given,) = rows.values()
        new = np.ones(given.shape[:2], np.int64) if mask is None else mask
        self._mask = np.concatenate([self._mask, new], axis=1)
        positions = np.maximum(self._mask.cumsum(1) - 1, 0)[:, -given.shape[1] :]
        names = [t.name for t in self._session.get_outputs()]
        feeds = {"attention_mask": self._mask, "position_ids": positions, **rows, **self._past}
        found = dict(zip(names, self._session.run(names, feeds), strict=True))
        self._past = {n: found[n.replace("past_key_values", "present")] for n in self._past}
        return found["logits"]
