"""Token embeddings, looked up in a memory-mapped table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgevlm.bundle import Bundle
from edgevlm.errors import BundleCorrupt
from edgevlm.tensors import Float32


class EmbeddingTable:
    """Rows of the embedding table, dequantised as they are read.

    The table stays in the page cache; only the rows in use are ever copied. A tied output head
    shares the same bytes.

    Args:
        bundle: holds the weight ``embedding``.

    Raises:
        BundleCorrupt: the manifest has no embedding, or one of a layout without rows.
    """

    def __init__(self, bundle: Bundle) -> None:
        entry = bundle.manifest.weights.get("embedding")
        if entry is None or entry.layout == "transposed":
            raise BundleCorrupt(f"{bundle.root}: the manifest names no embedding table")
        spec = bundle.manifest.decoder or bundle.manifest.seq2seq
        self._scale = np.float32(1.0 if spec is None else spec.embed_scale)
        # Plain views of the mapped file: numpy's memmap class costs more than a row does.
        self._values = np.asarray(bundle.array(entry.values))
        self._scales = None if entry.scales is None else np.asarray(bundle.array(entry.scales))
        if (entry.layout == "blocks") != (self._scales is not None) or entry.bits not in (None, 8):
            raise BundleCorrupt(f"{bundle.root}: an embedding table is plain or 8-bit blocks")

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def rows(self, token_ids: Sequence[int]) -> Float32:
        """Embeddings of ``token_ids``, float32 ``(tokens, hidden_size)``."""
        index = np.asarray(token_ids, np.int64)
        values = self._values[index]
        if self._scales is None:
            return self._scaled(np.asarray(values, np.float32))
        centred = values.astype(np.float32) - np.float32(128)
        centred *= self._scales[index][:, :, None]
        rows: Float32 = centred.reshape(len(index), values.shape[1] * values.shape[2])
        return self._scaled(rows)

    def _scaled(self, rows: Float32) -> Float32:
        return rows if self._scale == 1.0 else rows * self._scale
