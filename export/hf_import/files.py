"""Find the graphs of an onnx-community or optimum folder.

Source: transformers.js, ``models/session_config.js`` and ``utils/dtypes.js``, for the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevlm.bundle.manifest import Precision
from edgevlm.errors import CheckpointError

SUFFIXES: dict[Precision, tuple[str, ...]] = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "int8": ("_int8", "_quantized"),
    "int4": ("_q4",),
}
DECODERS = ("decoder_model_merged", "model")
VISION, EMBED = "vision_encoder", "embed_tokens"


@dataclass(frozen=True, slots=True)
class GraphFiles:
    """The graphs of one model in one precision.

    Args:
        decoder: takes rows, or token ids where the model is a text model in one graph.
        embed: token ids to rows; None where the decoder takes token ids.
        vision: None for a text model.
    """

    decoder: Path
    embed: Path | None = None
    vision: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every graph there is."""
        return tuple(p for p in (self.vision, self.embed, self.decoder) if p is not None)


def graph_folder(folder: Path) -> Path | None:
    """Where the graphs lie; None for a folder that has weights of its own, or no graphs."""
    if any(folder.glob("*.safetensors")):
        return None
    for place in (folder / "onnx", folder):
        if any(path for name in DECODERS for path in place.glob(f"{name}*.onnx")):
            return place
    return None


def find_graphs(folder: Path, precision: Precision, *, vision: bool) -> GraphFiles:
    """The graphs in the precision that was asked for.

    Args:
        folder: from ``graph_folder``.
        precision: which variants.
        vision: the model takes pictures.

    Raises:
        CheckpointError: one is missing; the message lists the variants that are there.
    """
    if vision:
        return GraphFiles(
            decoder=_one(folder, DECODERS[0], precision),
            embed=_one(folder, EMBED, precision),
            vision=_one(folder, VISION, precision),
        )
    name = next(n for n in DECODERS if any(folder.glob(f"{n}*.onnx")))
    embed = _one(folder, EMBED, precision) if any(folder.glob(f"{EMBED}*.onnx")) else None
    return GraphFiles(decoder=_one(folder, name, precision), embed=embed)


def _one(folder: Path, name: str, precision: Precision) -> Path:
    for suffix in SUFFIXES[precision]:
        if (path := folder / f"{name}{suffix}.onnx").is_file():
            return path
    wanted = " or ".join(f"{name}{suffix}.onnx" for suffix in SUFFIXES[precision])
    there = sorted(p.name for p in folder.glob(f"{name}*.onnx"))
    known = {s: p for p, suffixes in SUFFIXES.items() for s in suffixes}
    usable = {known.get(n.removeprefix(name).removesuffix(".onnx")) for n in there} - {None}
    hint = f"; --precision can be {', '.join(sorted(map(str, usable)))}" if usable else ""
    raise CheckpointError(
        f"{folder} has no {wanted} for --precision {precision}; there is "
        f"{', '.join(there) or f'no {name} at all'}{hint}"
    )
