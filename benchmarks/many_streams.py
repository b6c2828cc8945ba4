"""Four streams: one process with one model against four processes with a model each.

``python -m benchmarks.many_streams BUNDLE [--seconds 30] [--rounds 2]`` runs both in turn (A B A B)
on the same synthetic cameras, in which every frame is another picture: the gates are off, and every
stream wants more answers than there are. One JSON object each: answers a second, answers a second
of processor time (their starts included), peak memory added up, and of each stream its answers and
how long its frames waited (p50, p95). In the box, stream ``door`` has a higher priority and stream
``yard`` a promised rate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ("door", "yard", "garage", "street")
STREAM = """
[[streams]]
name = "{name}"
ask = "What is the main thing in this picture?"
{claim}
source = {{ uri = "{uri}" }}
policy = {{ gate = false }}
generation = {{ max_tokens = {tokens}, draft = false }}
"""


def camera(number: int) -> str:
    """A live source that never shows the same picture twice."""
    return f"synthetic:?live=1&seed={number}&fps=5&frames=1000000&size=640x360"


def started(words: list[str]) -> subprocess.Popen[str]:
    """``edgevlm run`` with these words."""
    command = [sys.executable, "-m", "edgevlm", "run", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ)
    )


def summaries(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """What all of them said at their ends.

    Raises:
        RuntimeError: one of them failed.
    """
    found = []
    for process in processes:
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        found += [e for e in map(json.loads, out.splitlines()) if e["kind"] == "summary"]
    return found


def children_s() -> float:
    """Processor seconds of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def measure(way: str, processes: list[subprocess.Popen[str]], before_s: float) -> dict[str, Any]:
    """Wait for the end of a way, and put its figures together."""
    said = summaries(processes)
    spent_s = children_s() - before_s
    each = {s["stream"]: s for s in said if s["seq"] is not None}
    whole = [s for s in said if s["seq"] is None] or list(each.values())
    answers = sum(s["frames"]["answered"] for s in each.values())
    return {
        "way": way,
        "answers": answers,
        "answers_per_s": round(sum(s["answers_per_s"] for s in whole), 3),
        "answers_per_cpu_s": round(answers / spent_s, 3),
        "peak_rss_mb": round(sum(s["peak_rss_mb"] for s in whole)),
        "streams": {
            name: {
                "answers": s["frames"]["answered"],
                "wait_ms": [s["stages_ms"].get("wait", {}).get(p) for p in ("p50", "p95")],
                "age_ms": [s["age_ms"][p] for p in ("p50", "p95")],
            }
            for name, s in each.items()
        },
    }


def main() -> None:
    """Print one JSON object a way and round."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--promise", type=float, default=0.5, help="Hz, of the stream yard")
    given = parser.parse_args()
    bundle = given.bundle.resolve()
    claims = {"door": "priority = 1", "yard": f"min_rate_hz = {given.promise}"}
    with tempfile.TemporaryDirectory() as folder:
        box = Path(folder) / "box.toml"
        text = f'bundle = "{bundle}"\novercommit = true\n'
        for number, name in enumerate(NAMES):
            text += STREAM.format(
                name=name, uri=camera(number), claim=claims.get(name, ""), tokens=given.tokens
            )
        box.write_text(text)
        for _ in range(given.rounds):
            before_s = children_s()
            limit = ["--duration", str(given.seconds)]
            print(json.dumps(measure("one process", [started([str(box), *limit])], before_s)))
            before_s = children_s()
            own = []
            for number, name in enumerate(NAMES):
                single = Path(folder) / f"{name}.toml"
                single.write_text(
                    f'name = "{name}"\nbundle = "{bundle}"\n'
                    'ask = "What is the main thing in this picture?"\n'
                    f'source = {{ uri = "{camera(number)}" }}\npolicy = {{ gate = false }}\n'
                    f"generation = {{ max_tokens = {given.tokens}, draft = false }}\n"
                )
                own.append(started([str(single), *limit]))
            print(json.dumps(measure("four processes", own, before_s)), flush=True)


if __name__ == "__main__":
    main()
