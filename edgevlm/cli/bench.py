"""``edgevlm bench``: measure a bundle: its speed, alone or against peers, or its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from edgevlm.errors import ConfigError


def command(
    bundle: Annotated[Path, typer.Argument(help="bundle folder or .evlm file")],
    against: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer on 3.10
        typer.Option(help="llama.cpp, ort-genai, transformers; may be given again"),
    ] = None,
    backend: Annotated[str, typer.Option(help="see: edgevlm list backends")] = "ort-cpu",
    threads: Annotated[int, typer.Option(min=0, help="0: physical cores")] = 0,
    trust_engines: Annotated[
        bool, typer.Option("--trust-engines", help="load engines that this device did not make")
    ] = False,
    questions: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--eval", metavar="FILE", help="questions with answers, one JSON a line"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Print load, latency, speed and memory of BUNDLE; with --against, ratios to peers.

    With --eval how often its answers are right instead (docs/evaluation.md).
    """
    from edgevlm.cli.console import progress, table, to_stdout, write_json
    from edgevlm.runtime.device.bench import bench

    if questions is not None:
        from edgevlm.cli.bench_eval import evaluate

        if against:
            raise ConfigError("--eval measures answers, --against speed: one at a time")
        evaluate(bundle, questions, backend, threads, trust_engines, as_json)
        return
    peers = _known(against or [])
    weights = _weights(bundle) if peers else None
    with progress("bench") as report:
        figures = bench(bundle, backend, threads, report, trust_engines=trust_engines)
    compared: dict[str, Any] = {}
    if weights is not None:
        from edgevlm.runtime.device.bench import cores
        from edgevlm.runtime.device.compare import compare

        with progress("peers") as report:
            compared = compare(bundle, weights, peers, threads or cores(), report=report)
    if as_json:
        write_json({**figures, **compared})
        return
    console = to_stdout()
    console.print(table(("figure", "value"), [[k, _show(v)] for k, v in figures.items()]))
    if compared:
        console.print(_engines(compared))
        rows = [[p, *(f"{v:.2f}" for v in r.values())] for p, r in compared["ratios"].items()]
        head = ("edgevlm / peer", *next(iter(compared["ratios"].values())))
        console.print(
            table(head, rows, "ratios of medians: above 1 edgevlm is faster (rss: larger)")
        )


def _known(peers: list[str]) -> list[str]:
    from edgevlm.runtime.device.compare import PEERS

    if odd := [p for p in peers if p not in PEERS]:
        raise ConfigError(f"--against {odd[0]!r}: known peers are {', '.join(PEERS)}")
    return list(dict.fromkeys(peers))


def _weights(bundle: Path) -> Path:
    """The GGUF file that nano's decoder was made from: peers run the same weights."""
    from edgevlm.bundle import open_bundle

    manifest = open_bundle(bundle, verify="size").manifest
    if manifest.family != "nano":
        raise ConfigError(
            f"--against compares engines on nano's weights; {bundle} is {manifest.family}"
        )
    from edgevlm.export.nano.packages import DECODER

    return DECODER.locate()


def _engines(compared: dict[str, Any]) -> Any:
    from edgevlm.cli.console import table

    keys = ("version", "load_s", "prefill_tokens_per_s", "first_token_ms", "decode_tokens_per_s",
            "rss_anon_mb", "rss_file_mb")  # fmt: skip
    rows = [[n, *(str(e[k]) for k in keys)] for n, e in compared["engines"].items()]
    title = (
        f"prefill of {compared['prompt_tokens']} tokens, {compared['decode_tokens']} decoded, "
        f"medians of {compared['rounds']} rounds in turn"
    )
    return table(("engine", *keys), rows, title)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "not reported by this machine" if value is None else str(value)
