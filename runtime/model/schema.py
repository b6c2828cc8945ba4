"""A JSON Schema, however it is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevlm.errors import SchemaError

# Where schemas lie inside a schema, and what says that more members may come.
NAMED = {"properties", "$defs", "definitions"}
NESTED = {"items", "prefixItems", "anyOf", "oneOf"}
OPEN = {
    "additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "allOf", "anyOf",
    "oneOf", "if", "then", "else", "not", "dependentSchemas",
}  # fmt: skip


def read_schema(given: Any) -> Mapping[str, Any] | None:
    """The schema as a mapping, ``closed``.

    Args:
        given: a mapping, the path of a JSON file, a pydantic model class, or None.

    Raises:
        SchemaError: something else, or a file that holds none.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return closed(given)
    if isinstance(given, str | Path):
        return closed(_from_file(Path(given)))
    describe = getattr(given, "model_json_schema", None)
    if isinstance(given, type) and callable(describe):
        return closed(describe())
    raise SchemaError(
        "a schema must be a mapping, the path of a JSON file or a pydantic model class, got "
        f"{type(given).__name__}"
    )


def _from_file(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SchemaError(f"the schema {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise SchemaError(f"the schema {path} is no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise SchemaError(f"the schema {path} must hold an object, got {type(found).__name__}")
    return found


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with objects that have no members besides those it names.

    JSON Schema allows any others unless ``additionalProperties`` says no; a language model would
    go on inventing them. What follows the closed schema follows the given one too. Objects that
    are put together from several schemas stay as they are.
    """
    made = dict(schema)
    for key in NAMED & schema.keys():
        if isinstance(schema[key], Mapping):
            made[key] = {name: _closed(part) for name, part in schema[key].items()}
    for key in NESTED & schema.keys():
        given = schema[key]
        made[key] = [_closed(p) for p in given] if isinstance(given, list) else _closed(given)
    if "properties" in schema and not schema.keys() & OPEN:
        made["additionalProperties"] = False
    return made


def _closed(part: Any) -> Any:
    return closed(part) if isinstance(part, Mapping) else part
