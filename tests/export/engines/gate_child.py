"""Compile many graphs in one process: the real parser, checks and builder, one job a line."""

from __future__ import annotations

import json
import sys

from edgevlm.errors import EdgeVLMError
from edgevlm.export.engines.child import compile_graph
from edgevlm.export.engines.job import CompileJob


def main() -> int:
    """Print what came of every job that stands on stdin."""
    found = []
    for line in sys.stdin:
        job = CompileJob.model_validate_json(line)
        try:
            found.append(compile_graph(job).model_dump(mode="json"))
        except EdgeVLMError as exc:
            found.append({"error": f"{type(exc).__name__}: {exc}"})
    sys.stdout.write(f"\n{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
