"""What must be true of a parsed network, whatever compiled it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgevlm.bundle.entries import TensorEntry
from edgevlm.errors import BuildError, UnsupportedOperator

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


def check_network(network: Any, name: str, aliases: Mapping[str, str]) -> None:
    """Refuse a network that would run and be wrong.

    Args:
        network: an ``INetworkDefinition``.
        name: of the graph, for messages.
        aliases: output -> input that the compiler must have understood as updated in place.

    Raises:
        BuildError: an input that nothing reads (a parser dropped it), or a cache that is copied.
        UnsupportedOperator: a layer is a plugin that edgevlm does not ship.
    """
    layers = list(_layers(network))
    read = {value for layer in layers for value in _names(layer, "input")}
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    if idle := [n for n in inputs if n not in read]:
        raise BuildError(f"{name}: the parser dropped {', '.join(idle)}: nothing reads it any more")
    for layer in layers:
        if layer.type.name.startswith("PLUGIN"):
            raise UnsupportedOperator(
                f"{name}: {layer.name} became a plugin, which has to be there wherever it runs"
            )
    in_place = {}
    for layer in layers:
        if layer.type.name == "KV_CACHE_UPDATE":
            in_place[layer.get_output(0).name] = layer.get_input(0).name
    if copied := sorted(out for out, into in aliases.items() if in_place.get(out) != into):
        raise BuildError(
            f"{name}: {', '.join(copied)} would not be updated in place, but copied every step"
        )


def allow_decomposing(trt: Any, network: Any) -> None:
    """Let attention without a fused kernel be computed by several (float32, odd head widths).

    The importer leaves this off, and the build then fails instead.

    Source: TensorRT documentation, transformers, multi-head attention fusion.
    """
    for layer in _layers(network):
        if layer.type.name == "ATTENTION_INPUT":
            layer.__class__ = trt.IAttentionInputLayer  # the list gives layers without their kind
            layer.attention.decomposable = True


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(i) for i in range(network.num_layers))


def _names(layer: Any, side: str) -> Iterator[str]:
    for i in range(getattr(layer, f"num_{side}s")):
        value = getattr(layer, f"get_{side}")(i)
        if value is not None:
            yield value.name


def tensors(network: Any, side: str) -> tuple[TensorEntry, ...]:
    """The network's inputs or outputs; a free dimension is called after its axis.

    Raises:
        BuildError: of a type that no bundle has.
    """
    found = []
    for i in range(getattr(network, f"num_{side}s")):
        value = getattr(network, f"get_{side}")(i)
        if value.dtype.name not in _DTYPES:
            raise BuildError(f"{value.name} is {value.dtype.name}, which a bundle cannot hold")
        shape = tuple(d if d >= 0 else f"axis_{n}" for n, d in enumerate(value.shape))
        found.append(TensorEntry(name=value.name, dtype=_DTYPES[value.dtype.name], shape=shape))
    return tuple(found)
