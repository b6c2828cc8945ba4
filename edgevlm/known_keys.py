"""Which keys of a section there are, for the message about one that there is not."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel


def known_keys(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where an unknown one does.

    Args:
        kind: of the whole.
        place: of the unknown key, as pydantic tells it.
    """
    models: list[Any] = [kind]
    for part in place[:-1]:
        if isinstance(part, str):
            fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
            # The kind of a gate is a part of the place, and no field.
            models = fields or [m for m in models if m.model_fields["kind"].default == part]
        models = [model for kind in models for model in _sections(kind)]
    return [info.alias or name for m in models for name, info in m.model_fields.items()]


def _sections(kind: Any) -> list[Any]:
    """The section itself, or all that stand in a type made of others."""
    if parts := get_args(kind):
        return [section for part in parts for section in _sections(part)]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
