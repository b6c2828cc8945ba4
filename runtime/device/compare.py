"""Measure peers on the same weights, in turn, and give ratios of medians."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from edgevlm.bundle.cache import cache_folder
from edgevlm.errors import BackendError, BackendUnavailable

PEERS = ("llama.cpp", "ort-genai", "transformers")
SETTLE_S = 0.5
_MODULES = {
    "llama.cpp": "llama_cpp",
    "ort-genai": "ort_genai",
    "transformers": "hf_transformers",
    "edgevlm": "ours",
}


@dataclass(slots=True)
class PeerFigures:
    """One engine's medians over the rounds."""

    peer: str
    version: str
    detail: dict[str, Any]
    load_s: float
    prefill_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)
    rss_anon_mb: float = 0.0
    rss_file_mb: float = 0.0

    def medians(self, prompt_tokens: int, decode_tokens: int) -> dict[str, Any]:
        """Plain figures for a report."""
        return {
            "peer": self.peer,
            "version": self.version,
            "detail": self.detail,
            "load_s": self.load_s,
            "prefill_tokens_per_s": round(prompt_tokens / median(self.prefill_s), 1),
            "first_token_ms": round(1e3 * median(self.first_token_s), 1),
            "decode_tokens_per_s": round(decode_tokens / median(self.decode_s), 1),
            "rss_anon_mb": self.rss_anon_mb,
            "rss_file_mb": self.rss_file_mb,
        }


class PeerProcess:
    """A peer in a process of its own, spoken to line by line.

    Args:
        peer: of ``PEERS``, or ``edgevlm``.
        arguments: of its worker, such as ``--weights FILE``.

    Raises:
        BackendUnavailable: it does not start.
    """

    def __init__(self, peer: str, arguments: Sequence[str]) -> None:
        module = f"edgevlm.runtime.device.peers.{_MODULES[peer]}"
        self._peer = peer
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        hello = self._read()
        self.figures = PeerFigures(
            peer=peer, version=hello["version"], detail=hello["detail"], load_s=hello["load_s"]
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _read(self) -> Any:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # engines print banners of their own
                return json.loads(line)
        _, errors = self._process.communicate()
        lines = [text for text in errors.splitlines() if text.strip()]
        reason = lines[-1] if lines else f"exit {self._process.returncode}"
        raise BackendUnavailable(f"the peer {self._peer} does not start: {reason}")

    def run(self, prompt_tokens: int, decode_tokens: int) -> Mapping[str, Any]:
        """Prefill and decode so many tokens, from an empty cache.

        Raises:
            BackendError: it failed.
        """
        assert self._process.stdin is not None
        request = {"prompt_tokens": prompt_tokens, "decode_tokens": decode_tokens}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: Mapping[str, Any] = self._read()
        if "error" in answer:
            raise BackendError(f"the peer {self._peer} failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def compare(
    bundle: Path,
    weights: Path,
    peers: Sequence[str],
    threads: int,
    *,
    rounds: int = 9,
    prompt_tokens: int = 256,
    decode_tokens: int = 64,
    report: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> dict[str, Any]:
    """Run edgevlm and its peers in turn (A B C, C A B, ...), one at a time.

    Between two runs nothing happens for ``SETTLE_S``: every engine's idle workers spin for a
    while, and would otherwise spin into the next engine's time.

    Args:
        bundle: the bundle folder.
        weights: the GGUF file that the bundle was made from.
        peers: of ``PEERS``.
        threads: compute threads of every engine.
        rounds: timed rounds; one more, untimed, comes first.
        prompt_tokens: prefilled per round.
        decode_tokens: decoded per round.
        report: called after every round.

    Returns:
        ``engines`` with medians each, and per peer ``ratios``: edgevlm's speed over the peer's,
        so that above 1 is faster (for ``rss``: edgevlm's bytes over the peer's).

    Raises:
        BackendUnavailable: a peer is not installed.
    """
    common = ["--threads", str(threads), "--context", "1024"]
    with ExitStack() as stack:
        workers: dict[str, PeerProcess] = {}
        for name in ("edgevlm", *peers):
            path = bundle if name == "edgevlm" else weights
            extra = ["--cache", str(cache_folder() / "peers")] if name == "ort-genai" else []
            worker = PeerProcess(name, ["--weights", str(path), *common, *extra])
            stack.callback(worker.close)
            workers[name] = worker
        order = deque(workers.values())
        for turn in range(rounds + 1):
            order.rotate(1)
            for worker in order:
                time.sleep(SETTLE_S)
                answer = worker.run(prompt_tokens, decode_tokens)
                figures = worker.figures
                figures.rss_anon_mb = float(answer["rss_anon_mb"])
                figures.rss_file_mb = float(answer["rss_file_mb"])
                if turn:
                    figures.prefill_s.append(float(answer["prefill_s"]))
                    figures.first_token_s.append(float(answer["first_token_s"]))
                    figures.decode_s.append(float(answer["decode_s"]))
            report(turn + 1, rounds + 1, "rounds")
    engines = {n: w.figures.medians(prompt_tokens, decode_tokens) for n, w in workers.items()}
    ratios = {name: _ratios(workers["edgevlm"].figures, workers[name].figures) for name in peers}
    return {
        "prompt_tokens": prompt_tokens,
        "decode_tokens": decode_tokens,
        "rounds": rounds,
        "engines": engines,
        "ratios": ratios,
    }


def _ratios(ours: PeerFigures, peer: PeerFigures) -> dict[str, float]:
    return {
        "decode": round(median(peer.decode_s) / median(ours.decode_s), 3),
        "prefill": round(median(peer.prefill_s) / median(ours.prefill_s), 3),
        "ttft": round(median(peer.first_token_s) / median(ours.first_token_s), 3),
        "cold": round(peer.load_s / ours.load_s, 3),
        "rss": round(ours.rss_anon_mb / peer.rss_anon_mb, 3),
    }
