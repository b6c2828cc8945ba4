"""The schema of ``manifest.json``: all that the runtime needs to know about a bundle."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from edgevlm.bundle.confidence import ConfidenceSpec
from edgevlm.bundle.decoder import DecoderSpec
from edgevlm.bundle.engines import FOLDER as ENGINES
from edgevlm.bundle.engines import Target, TargetEngines, check_places
from edgevlm.bundle.entries import Dtype
from edgevlm.bundle.entries import Precision as Precision
from edgevlm.bundle.entries import TensorEntry as TensorEntry
from edgevlm.bundle.images import ImageSpec, Strict
from edgevlm.bundle.masks import GRAPH as MASKS
from edgevlm.bundle.masks import MaskSpec
from edgevlm.bundle.matching import GRAPH as MATCHING
from edgevlm.bundle.matching import MatchSpec
from edgevlm.bundle.prompt import PromptSpec
from edgevlm.bundle.provenance import FileEntry, MemoryPlan, ParitySummary, SourceModel
from edgevlm.bundle.seq2seq import Seq2SeqSpec
from edgevlm.bundle.text import TextSpec
from edgevlm.bundle.visual_tokens import VisualTokens as VisualTokens
from edgevlm.errors import ContractError

FORMAT_VERSION: Literal[1] = 1
REPAIRED = "repaired: "  # begins a graph's note of what was kept higher so that its gates hold


class BranchesEntry(Strict):
    """The decoder over the same weights, for several sequences in one call."""

    file: str
    count: int = Field(ge=2, description="sequences, each with a cache of its own")


class GraphEntry(Strict):
    """One ONNX graph."""

    file: str
    lowering: str = Field(description="which operator set it was lowered to, e.g. ort-gqa")
    opset: int
    precision: Precision
    exceptions: dict[str, str] = Field(
        default_factory=dict, description="weights kept in another precision: name -> precision"
    )
    notes: tuple[str, ...] = Field(default=(), description="done to graph or weights")
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    branches: BranchesEntry | None = Field(
        default=None, description="of a decoder: answers several questions side by side"
    )


class Segment(Strict):
    """One array in a data file."""

    file: str
    offset: int = Field(ge=0)
    dtype: Dtype
    shape: tuple[Annotated[int, Field(ge=0)], ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the array occupies."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class WeightEntry(Strict):
    """Where a weight lies, and how it is stored.

    ``layout`` is ``plain`` (array as is), ``transposed`` (stored as in-features x out-features) or
    ``blocks`` (MatMulNBits: unsigned values, low nibble first, w = scale * (q - zero)).
    """

    layout: Literal["plain", "transposed", "blocks"]
    bits: int | None = None
    block_size: int | None = None
    values: Segment
    scales: Segment | None = None
    zeros: Segment | None = Field(
        default=None, description="packed zero points; absent means 2^(bits-1)"
    )


class ConvLayout(Strict):
    """What short convolutions keep: their last inputs, ``(1, columns, width)`` a layer."""

    layers: tuple[int, ...] = Field(min_length=1)
    columns: int = Field(ge=1, description="positions")
    width: int = Field(ge=1)


class KVLayout(Strict):
    """The KV cache: one key and one value buffer a layer that attends, updated in place."""

    layers: int = Field(description="of the decoder; those under conv keep no keys and values")
    kv_heads: int
    head_dim: int
    capacity: int = Field(ge=1, description="tokens")
    dtype: Literal["float32", "float16"]
    layout: Literal["BNSH"] = "BNSH"
    conv: ConvLayout | None = None

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """The layers that keep keys and values."""
        others = () if self.conv is None else self.conv.layers
        return tuple(i for i in range(self.layers) if i not in others)

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token occupies over all layers."""
        size = 4 if self.dtype == "float32" else 2
        return 2 * len(self.attention_layers) * self.kv_heads * self.head_dim * size

    @property
    def conv_bytes(self) -> int:
        """Bytes of the convolutions' state, whatever the context."""
        if self.conv is None:
            return 0
        size = 4 if self.dtype == "float32" else 2
        return len(self.conv.layers) * self.conv.columns * self.conv.width * size


class Language(NamedTuple):
    """What a language model needs besides its graphs."""

    spec: DecoderSpec | Seq2SeqSpec
    kv: KVLayout
    prompt: PromptSpec


class Manifest(Strict):
    """The whole of ``manifest.json``."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    family: str
    precision: Precision
    source: SourceModel
    exporter: dict[str, str] = Field(description="library -> version")
    graphs: dict[str, GraphEntry]
    decoder: DecoderSpec | None = None
    seq2seq: Seq2SeqSpec | None = None
    weights: dict[str, WeightEntry]
    image: ImageSpec | None = None
    visual_tokens: VisualTokens | None = None
    prompt: PromptSpec | None = None
    kv: KVLayout | None = None
    text: TextSpec | None = None
    masks: MaskSpec | None = None
    matching: MatchSpec | None = None
    confidence: ConfidenceSpec | None = Field(
        default=None, description="calibration of confidences; None: they are the model's own"
    )
    memory: MemoryPlan
    parity: ParitySummary | None = None
    licenses: tuple[str, ...] = ()
    engines: dict[Target, TargetEngines] = Field(
        default_factory=dict, description="target -> what edgevlm build made for it"
    )
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if not self.graphs:
            raise ValueError("a bundle needs at least one graph")
        language = (self.decoder or self.seq2seq, self.prompt, self.kv)
        if "decoder" in self.graphs and None in language:
            raise ValueError("a decoder graph needs the sections decoder or seq2seq, prompt and kv")
        if ("encoder" in self.graphs) != (self.seq2seq is not None):
            raise ValueError("a graph called encoder and the section seq2seq go together")
        sections = {
            "vision": self.image,
            "text": self.text,
            MASKS: self.masks,
            MATCHING: self.matching,
        }
        for graph, section in sections.items():
            if (graph in self.graphs) != (section is not None):
                raise ValueError(f"a graph called {graph} and the section about it go together")
        named = {g.file for g in self.graphs.values()}
        named |= {g.branches.file for g in self.graphs.values() if g.branches}
        for weight in self.weights.values():
            named |= {s.file for s in (weight.values, weight.scales, weight.zeros) if s}
        if self.prompt and self.prompt.chat_template:
            named.add(self.prompt.chat_template)
        if self.prompt and self.prompt.labels:
            named.add(self.prompt.labels.file)
        if self.prompt and self.prompt.scene:
            named.add(self.prompt.scene.file)
        named |= check_places(self.engines)
        if lost := sorted(named - self.files.keys()):
            raise ValueError(f"named but not listed under files: {lost}")
        return self

    @property
    def language(self) -> Language:
        """The language model's sections.

        Raises:
            ContractError: this bundle is an encoder.
        """
        spec = self.decoder or self.seq2seq
        if spec is None or self.kv is None or self.prompt is None:
            raise ContractError(f"{self.name} has no language model: it answers no questions")
        return Language(spec, self.kv, self.prompt)

    def canonical(self) -> bytes:
        """JSON with sorted keys and no spaces: what the bundle id hashes.

        Engines are left out, and their files: they are made from the rest, and named after it.
        """
        kept = self.model_dump(mode="json", exclude={"engines"})
        # Bundles from before there were any keep their id.
        if kept["confidence"] is None:
            del kept["confidence"]
        if kept["prompt"] is not None and kept["prompt"]["scene"] is None:
            del kept["prompt"]["scene"]
        for graph in kept["graphs"].values():
            if graph["branches"] is None:
                del graph["branches"]
        if kept["text"] is not None and not kept["text"]["leading_space"]:
            del kept["text"]["leading_space"]
        if kept["visual_tokens"] is not None and not kept["visual_tokens"]["budgets"]:
            del kept["visual_tokens"]["budgets"]
        kept["files"] = {
            name: entry
            for name, entry in kept["files"].items()
            if not name.startswith(f"{ENGINES}/")
        }
        return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def bundle_id(self) -> str:
        """SHA-256 of the canonical manifest; building engines does not change it."""
        return hashlib.sha256(self.canonical()).hexdigest()
