"""A decoder with its KV cache, whatever its graph was lowered to."""

from __future__ import annotations

from typing import Protocol

from edgevlm.bundle import Bundle, Manifest
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.bundle.static_cache import ONNX_STD, TRT10_COMPAT
from edgevlm.errors import BundleError, ContractError
from edgevlm.runtime.backends.base import Backend, Graph
from edgevlm.runtime.model.embedding import EmbeddingTable
from edgevlm.runtime.model.growing_cache import GrowingDecoder
from edgevlm.runtime.model.kv_cache import CachedDecoder
from edgevlm.runtime.model.rows import Rows
from edgevlm.runtime.model.seq2seq import open_seq2seq
from edgevlm.runtime.model.static_cache import takes_positions
from edgevlm.runtime.model.static_decoder import StaticDecoder
from edgevlm.tensors import Array, Float32

IN_PLACE = "ort-gqa"
GROWING = "hf-merged"
KNOWN = (IN_PLACE, GROWING, ONNX_STD, TRT10_COMPAT)


class Decoder(Protocol):
    """Appends rows, gives logits, and goes back to an earlier position.

    ``wide``: behind a prompt it takes several rows in a call, else one. ``rewinds``: it goes back
    to any position, else to marked ones.
    """

    capacity: int
    length: int
    wide: bool
    rewinds: bool

    def room(self, rows: int) -> int:
        """Positions that are left behind so many further rows; below 0, they do not fit."""
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from ``length`` on: none is left, or one that was marked."""
        ...

    def mark(self) -> None:
        """Keep what it takes to come back to this position; many decoders need nothing."""
        ...

    def append(self, rows: Rows | Float32, logits: int = 1) -> Float32:
        """Run rows behind what the cache holds: logits of the last ones, until the next call."""
        ...

    @property
    def watched(self) -> dict[str, Array]:
        """Those of the watched outputs that the graph has, after the last call."""
        ...

    def close(self) -> None:
        """Release the cache; may be called twice."""
        ...


def open_decoder(manifest: Manifest, graph: Graph, watch: tuple[str, ...] = ()) -> Decoder:
    """The cache that fits the decoder graph's lowering.

    Args:
        manifest: of the bundle.
        graph: its decoder, loaded.
        watch: further outputs of the graph to keep after every call.

    Raises:
        ContractError: the model is an encoder-decoder.
        BundleError: a lowering that this runtime does not know.
    """
    spec, layout, _ = manifest.language
    if isinstance(spec, Seq2SeqSpec):
        raise ContractError(f"{manifest.name} is an encoder-decoder: its decoder has no prompt")
    lowering = manifest.graphs["decoder"].lowering
    if lowering not in KNOWN:
        raise BundleError(
            f"{manifest.name}: the decoder was lowered to {lowering!r}; this runtime knows "
            f"{', '.join(KNOWN)}: export the model again"
        )
    if lowering == GROWING:
        return GrowingDecoder(graph, layout, spec)
    if takes_positions(graph):
        return StaticDecoder(graph, layout, spec)
    return CachedDecoder(graph, layout, spec, watch)


def load_decoder(
    bundle: Bundle, backend: Backend, table: EmbeddingTable, watch: tuple[str, ...] = ()
) -> Decoder:
    """What answers a bundle's prompts: its decoder, behind the encoder where there is one.

    Args:
        bundle: of a language model.
        backend: loads the graphs.
        table: token embeddings.
        watch: further outputs of the decoder to keep after every call.

    Raises:
        BackendError: a graph does not load.
        BundleError: a lowering that this runtime does not know.
    """
    manifest = bundle.manifest
    graph = backend.load(bundle.path(manifest.graphs["decoder"].file), burst=True)
    if manifest.seq2seq is None:
        return open_decoder(manifest, graph, watch)
    return open_seq2seq(bundle, backend, graph, table, watch)
