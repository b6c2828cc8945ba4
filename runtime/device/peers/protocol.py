"""What every peer worker shares: its options, the prompt, the clock's result and the line loop.

A worker loads its model and prints one JSON line::

    {"peer": "llama.cpp", "version": "0.3.36", "load_s": 0.1, "detail": {...}}

For every line ``{"prompt_tokens": N, "decode_tokens": M}`` on its standard input it clears its KV
state, prefills N tokens, decodes M more greedily, one at a time and past any end-of-sequence
token, and prints one JSON line with ``prefill_s`` (the N tokens), ``first_token_s`` (the same and
the choice of the first new token), ``decode_s`` (M single-token steps, each with its choice),
``rss_anon_mb``, ``rss_file_mb`` and ``tokens`` (the first eight new ids; the prefill's is the
first of them). A request that cannot be met is answered ``{"error": "..."}``. It ends with its
input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgevlm.errors import BackendError, BackendUnavailable, ContextOverflow, EdgeVLMError

SHOWN_TOKENS = 8


@dataclass(frozen=True)
class Timing:
    """One prefill and its decode steps, in seconds, with the first tokens chosen."""

    prefill_s: float
    first_token_s: float
    decode_s: float
    tokens: Sequence[int]


class Peer(Protocol):
    """A loaded engine."""

    name: str
    version: str
    load_s: float
    detail: dict[str, Any]

    def run(self, prompt: list[int], steps: int) -> Timing:
        """Clear the KV state, prefill ``prompt`` and decode ``steps`` tokens."""
        ...


def prompt_ids(count: int) -> list[int]:
    """Return the prompt of ``count`` token ids that every peer is given."""
    return [1000 + (i * 7919) % 40000 for i in range(count)]


def require(module: str, extra: str = "peers") -> Any:
    """Import an engine.

    Args:
        module: The module's absolute name.
        extra: The extra of edgevlm that installs it.

    Returns:
        The module.

    Raises:
        BackendUnavailable: It is not installed, or its libraries do not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendUnavailable(
            f"{module} cannot be imported ({error}): pip install 'edgevlm[{extra}]'"
        ) from error


def resident_mb() -> dict[str, float]:
    """Return this process's resident memory in MB of 10^6 bytes, anonymous and file-backed."""
    found = {}
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key in ("RssAnon", "RssFile"):
            found[key] = int(value.split()[0]) * 1024 / 1e6
    return {
        "rss_anon_mb": round(found.get("RssAnon", 0.0), 1),
        "rss_file_mb": round(found.get("RssFile", 0.0), 1),
    }


def options(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every worker has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--weights", type=Path, required=True, help="GGUF file")
    parser.add_argument("--threads", type=int, default=2, help="compute threads (default: 2)")
    parser.add_argument("--context", type=int, default=1024, help="KV cache size (default: 1024)")
    return parser


def serve(load: Callable[[], Peer], context: int) -> int:
    """Load a peer and answer requests until the input ends.

    Args:
        load: Builds the peer.
        context: How many tokens its KV cache holds.

    Returns:
        The process's exit status: 2 when the peer could not be loaded.
    """
    try:
        peer = load()
    except EdgeVLMError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _emit(
        {
            "peer": peer.name,
            "version": peer.version,
            "load_s": round(peer.load_s, 4),
            "detail": peer.detail,
        }
    )
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            _emit(_answer(peer, line, context))
        except EdgeVLMError as error:
            _emit({"error": str(error)})
    return 0


def _answer(peer: Peer, line: str, context: int) -> dict[str, Any]:
    """Run one request line and return its answer."""
    try:
        request = json.loads(line)
        prompt, steps = int(request["prompt_tokens"]), int(request["decode_tokens"])
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(
            f"a request is a JSON object with prompt_tokens and decode_tokens, not {line.strip()!r}"
        ) from error
    if prompt < 1 or steps < 0:
        raise BackendError(f"{prompt} prompt and {steps} decode tokens: want at least 1 and 0")
    if prompt + steps + 1 > context:
        raise ContextOverflow(
            f"{prompt} prompt and {steps} decode tokens need a context of {prompt + steps + 1}, "
            f"this worker has {context}: raise --context"
        )
    timing = peer.run(prompt_ids(prompt), steps)
    return {
        "prefill_s": timing.prefill_s,
        "first_token_s": timing.first_token_s,
        "decode_s": timing.decode_s,
        **resident_mb(),
        "tokens": [int(token) for token in timing.tokens[:SHOWN_TOKENS]],
    }


def _emit(message: dict[str, Any]) -> None:
    """Print one line of JSON at once."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
