"""Write the JSON Schemas of what edgevlm prints and what it stores.

``python docs/make_schemas.py [FOLDER]`` writes ``event.schema.json`` and ``manifest.schema.json``
(into this folder, unless told otherwise); with ``--check`` it writes nothing and exits 1 if a file
differs from what the code says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from edgevlm.bundle import Manifest
from edgevlm.event import EVENTS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """File name -> text. Events as they are written, the manifest as it may be read."""
    event = EVENTS.json_schema(mode="serialization")
    manifest = Manifest.model_json_schema(mode="validation")
    return {
        "event.schema.json": _text("edgevlm event, one JSON object a line", event),
        "manifest.schema.json": _text("manifest.json of an edgevlm bundle", manifest),
    }


def _text(title: str, schema: dict[str, Any]) -> str:
    whole = {"$schema": DIALECT, **schema, "title": title}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check; return the exit code."""
    places = [a for a in arguments if a != "--check"]
    folder = Path(places[0]) if places else Path(__file__).parent
    differs = False
    for name, text in schemas().items():
        path = folder / name
        if "--check" not in arguments:
            path.write_text(text, "utf-8")
        elif not path.is_file() or path.read_text("utf-8") != text:
            sys.stderr.write(f"{path} is out of date: python docs/make_schemas.py\n")
            differs = True
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
