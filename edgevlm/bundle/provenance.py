"""Where a bundle came from, what it holds, and what it was found to be worth."""

from __future__ import annotations

from pydantic import Field

from edgevlm.bundle.images import Strict


class FileEntry(Strict):
    """One file of the bundle, the manifest itself excepted."""

    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SourceModel(Strict):
    """Where the weights came from."""

    name: str
    family: str
    sha256: str = Field(description="over the weight files, in the order of their names")
    license: str
    parts: dict[str, str] = Field(default_factory=dict, description="file -> sha256")


class MemoryPlan(Strict):
    """Bytes that a loaded bundle needs."""

    weights: int
    kv_cache: int
    embedding: int


class ParitySummary(Strict):
    """The verdict of ``parity.json``."""

    passed: bool
    degraded: tuple[str, ...] = ()
