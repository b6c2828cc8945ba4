"""Compiled engines: what each was made of and for, and whether it fits this machine.

An engine is derived: anyone can make it again from the bundle's graphs and weights. So the bundle
id leaves engines out (``Manifest.canonical``), a key names the bundle by that id, and building for
a second target changes neither the id nor the keys of the first.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgevlm.bundle.entries import TensorEntry
from edgevlm.bundle.images import Strict
from edgevlm.parity import BackendParity

FOLDER = "engines"
Target = Annotated[str, Field(pattern=r"^(trt|ort-trt|trt-rtx:sm[0-9]{2,3})$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Library = Literal["tensorrt", "tensorrt-rtx", "onnxruntime"]


def target_folder(target: str) -> str:
    """Where a target's engines lie in the bundle: ``engines/trt-rtx-sm86``."""
    return f"{FOLDER}/{target.replace(':', '-')}"


class ShapeRange(Strict):
    """The shapes that one input may take; all three alike where it is fixed."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    @model_validator(mode="after")
    def _ordered(self) -> ShapeRange:
        if not len(self.min) == len(self.opt) == len(self.max):
            raise ValueError(f"a range of unequal ranks: {self.min}, {self.opt}, {self.max}")
        if any(not a <= b <= c for a, b, c in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"min <= opt <= max is not so: {self.min}, {self.opt}, {self.max}")
        return self


Profile = Annotated[dict[str, ShapeRange], Field(description="input -> range, free inputs only")]


class Platform(Strict):
    """What an engine is bound to, as a machine says it of itself.

    Args:
        library: whose format it is.
        version: of that library, whole.
        cuda: ``major.minor``, or the major version alone. Only that one binds: within it, code made
            with an earlier CUDA runs under a later driver.
        sm: compute capability without the dot, ``"87"``.
        device: its name; None for an engine compiled ahead of time, which fits any.
    """

    library: Library
    version: str
    cuda: str
    sm: str = Field(pattern=r"^[0-9]{2,3}$")
    device: str | None = None


class EngineKey(Strict):
    """Everything that makes an engine what it is: alter one field, and it must be built again.

    Args:
        bundle: id of the bundle, which no engine changes.
        graph: SHA-256 of the lowered graph and its weights, as the compiler read them.
        lowering: operator set of that graph.
        precision: of its weights.
        platform: where it runs.
        profiles: the shapes it was compiled for.
        flags: compiler settings that change the result.
    """

    bundle: Sha256
    graph: Sha256
    lowering: str
    precision: str
    platform: Platform
    profiles: tuple[Profile, ...] = ()
    flags: dict[str, str] = Field(default_factory=dict)

    def differs(self, other: EngineKey) -> tuple[str, ...]:
        """The fields in which two keys differ, those of the platform by their own names."""
        names = [n for n in EngineKey.model_fields if n != "platform"]
        found = [n for n in names if getattr(self, n) != getattr(other, n)]
        return (*found, *_platform_differs(self.platform, other.platform))

    def unfit(self, bundle: str, here: Platform) -> tuple[str, ...]:
        """Why an engine with this key cannot serve: ``sm is 86, here 87``; empty if it can.

        Args:
            bundle: id of the bundle that it is to serve.
            here: the machine that is to run it.
        """
        found = []
        if self.bundle != bundle:
            found.append(f"bundle is {self.bundle[:12]}, here {bundle[:12]}")
        for name in _platform_differs(self.platform, here):
            found.append(f"{name} is {getattr(self.platform, name)}, here {getattr(here, name)}")
        return tuple(found)


def _platform_differs(built: Platform, here: Platform) -> tuple[str, ...]:
    return tuple(
        name
        for name in Platform.model_fields
        if not _agrees(name, getattr(built, name), getattr(here, name))
    )


def _agrees(name: str, built: str | None, here: str | None) -> bool:
    if name == "device" and built is None:
        return True
    if name == "cuda" and built and here:
        return built.partition(".")[0] == here.partition(".")[0]
    return built == here


class EngineEntry(Strict):
    """One graph, compiled.

    ``inputs`` and ``outputs`` are the engine's own tensors; an output in ``aliases`` must be given
    the address of the input that it names (a KV cache that is updated in place).
    """

    file: str
    key: EngineKey
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    aliases: dict[str, str] = Field(default_factory=dict, description="output -> input")
    notes: tuple[str, ...] = Field(default=(), description="done to graph or weights")

    @model_validator(mode="after")
    def _consistent(self) -> EngineEntry:
        inputs, outputs = {t.name for t in self.inputs}, {t.name for t in self.outputs}
        if lost := sorted((self.aliases.keys() - outputs) | (set(self.aliases.values()) - inputs)):
            raise ValueError(f"aliases name tensors that the engine lacks: {lost}")
        if lost := sorted({n for p in self.key.profiles for n in p} - inputs):
            raise ValueError(f"profiles name inputs that the engine lacks: {lost}")
        return self


class TargetEngines(Strict):
    """What ``edgevlm build --target`` made.

    ``built`` is ``here`` for an engine compiled on the kind of device that runs it, which timed its
    kernels there, and ``ahead-of-time`` otherwise. ``parity`` is that of the engines; ``lowered``
    that of the graphs they were compiled from, which ONNX Runtime ran on the stored probe: what the
    lowering and its precision cost, whatever the compiler then does.
    """

    built: Literal["here", "ahead-of-time"]
    parity: BackendParity
    lowered: BackendParity | None = None
    graphs: dict[str, EngineEntry] = Field(min_length=1)

    @property
    def misses(self) -> tuple[str, ...]:
        """The gates that the engines miss, or the graphs that they were compiled from."""
        lowered = () if self.lowered is None else self.lowered.misses
        return lowered + tuple(name for name in self.parity.misses if name not in lowered)


def check_places(engines: dict[str, TargetEngines]) -> set[str]:
    """The files that engines lie in.

    Raises:
        ValueError: a target's engine lies outside that target's folder, or is no ``.engine`` or
            ``.onnx`` (the context model of an ONNX Runtime provider).
    """
    files = set()
    for target, made in engines.items():
        for entry in made.graphs.values():
            pattern = rf"{re.escape(target_folder(target))}/[A-Za-z0-9._-]+\.(engine|onnx)"
            if not re.fullmatch(pattern, entry.file):
                raise ValueError(f"{entry.file} is no place for an engine of {target}")
            files.add(entry.file)
    return files
