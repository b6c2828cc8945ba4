"""What a loaded bundle can be asked to do, from the graphs that it holds."""

from __future__ import annotations

from collections.abc import Callable

from edgevlm.bundle.manifest import Manifest
from edgevlm.bundle.masks import GRAPH as MASKS
from edgevlm.bundle.matching import GRAPH as MATCHING
from edgevlm.errors import ContractError

# Method of a loaded model -> what it needs, in words, and whether a bundle has it.
_NEEDS: dict[str, tuple[str, Callable[[Manifest], bool]]] = {
    "ask": ("language model", lambda m: "decoder" in m.graphs),
    "encode": ("vision encoder", lambda m: "vision" in m.graphs),
    "encode_text": ("text encoder", lambda m: "text" in m.graphs),
    "classify": (
        "text encoder beside a picture embedding",
        lambda m: "text" in m.graphs and gives(m, "embedding"),
    ),
    "segment": (
        "text encoder beside patch embeddings",
        lambda m: "text" in m.graphs and gives(m, "patch_embeds"),
    ),
    "masks": ("mask decoder", lambda m: MASKS in m.graphs),
    "match": ("head that holds patches against a bank", lambda m: MATCHING in m.graphs),
}


def abilities(manifest: Manifest) -> tuple[str, ...]:
    """The methods of a loaded model that this bundle has the graphs for."""
    return tuple(name for name, (_, there) in _NEEDS.items() if there(manifest))


def gives(manifest: Manifest, output: str) -> bool:
    """True if the vision graph has this output."""
    graph = manifest.graphs.get("vision")
    return graph is not None and any(t.name == output for t in graph.outputs)


def require(manifest: Manifest, ability: str) -> None:
    """Refuse a method that the bundle has no graphs for.

    Raises:
        ContractError: naming what is missing, and what the bundle can do instead.
    """
    needed, there = _NEEDS[ability]
    if not there(manifest):
        raise ContractError(
            f"{manifest.name} has no {needed}, which {ability!r} needs; this bundle can: "
            f"{', '.join(abilities(manifest)) or 'nothing of the kind'}"
        )
