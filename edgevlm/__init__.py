"""edgevlm: from a checkpoint to a verified bundle, from a frame to an answer.

Names are imported when they are first used, so that ``import edgevlm`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgevlm.answer import Answer, Timing, TokenCounts
    from edgevlm.errors import (
        BackendError,
        BackendGone,
        BackendMemoryError,
        BackendUnavailable,
        BankError,
        BuildError,
        BuildMemoryError,
        BundleCorrupt,
        BundleError,
        BundleExists,
        BundleVersion,
        CheckpointError,
        ConfigError,
        ContextOverflow,
        ContractError,
        EdgeVLMError,
        EmbeddingMismatch,
        EngineMismatch,
        EngineUntrusted,
        ExportError,
        GraphRefused,
        ImageError,
        Overcommitted,
        PackError,
        ParityError,
        SchemaError,
        SinkError,
        SourceError,
        SourceStalled,
        SourceUnauthorized,
        SourceUnavailable,
        UnsupportedOperator,
    )
    from edgevlm.event import AnswerEvent, FaultEvent, SummaryEvent
    from edgevlm.frame import Frame
    from edgevlm.runtime.model.draft import Drafts
    from edgevlm.runtime.model.load import load
    from edgevlm.runtime.model.vision import Encoded
    from edgevlm.runtime.model.vlm import Vlm
    from edgevlm.runtime.stream.run import run
    from edgevlm.tensors import TensorSpec

__version__ = "0.1.0"

_HOMES = {
    "edgevlm.answer": ("Answer", "Timing", "TokenCounts"),
    "edgevlm.errors": (
        "BackendError",
        "BackendGone",
        "BackendMemoryError",
        "BackendUnavailable",
        "BankError",
        "BuildError",
        "BuildMemoryError",
        "BundleCorrupt",
        "BundleError",
        "BundleExists",
        "BundleVersion",
        "CheckpointError",
        "ConfigError",
        "ContextOverflow",
        "ContractError",
        "EdgeVLMError",
        "EmbeddingMismatch",
        "EngineMismatch",
        "EngineUntrusted",
        "ExportError",
        "GraphRefused",
        "ImageError",
        "Overcommitted",
        "PackError",
        "ParityError",
        "SchemaError",
        "SinkError",
        "SourceError",
        "SourceStalled",
        "SourceUnauthorized",
        "SourceUnavailable",
        "UnsupportedOperator",
    ),
    "edgevlm.event": ("AnswerEvent", "FaultEvent", "SummaryEvent"),
    "edgevlm.frame": ("Frame",),
    "edgevlm.runtime.model.draft": ("Drafts",),
    "edgevlm.runtime.model.load": ("load",),
    "edgevlm.runtime.model.vision": ("Encoded",),
    "edgevlm.runtime.model.vlm": ("Vlm",),
    "edgevlm.runtime.stream.run": ("run",),
    "edgevlm.tensors": ("TensorSpec",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "AnswerEvent",
    "BackendError",
    "BackendGone",
    "BackendMemoryError",
    "BackendUnavailable",
    "BankError",
    "BuildError",
    "BuildMemoryError",
    "BundleCorrupt",
    "BundleError",
    "BundleExists",
    "BundleVersion",
    "CheckpointError",
    "ConfigError",
    "ContextOverflow",
    "ContractError",
    "Drafts",
    "EdgeVLMError",
    "EmbeddingMismatch",
    "Encoded",
    "EngineMismatch",
    "EngineUntrusted",
    "ExportError",
    "FaultEvent",
    "Frame",
    "GraphRefused",
    "ImageError",
    "Overcommitted",
    "PackError",
    "ParityError",
    "SchemaError",
    "SinkError",
    "SourceError",
    "SourceStalled",
    "SourceUnauthorized",
    "SourceUnavailable",
    "SummaryEvent",
    "TensorSpec",
    "Timing",
    "TokenCounts",
    "UnsupportedOperator",
    "Vlm",
    "__version__",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'edgevlm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
