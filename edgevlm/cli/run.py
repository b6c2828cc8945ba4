"""``edgevlm run``: stream a source through a bundle."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from edgevlm.cli.labels import Label, LabelsFile, labels

if TYPE_CHECKING:
    from edgevlm.box import BoxConfig
    from edgevlm.config import RunConfig
    from edgevlm.event import SummaryEvent


class _StopSignal:
    """Notes SIGINT and SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number

    def __call__(self) -> bool:
        return self.received is not None


def command(
    config: Annotated[
        Optional[Path],  # noqa: UP045 - typer on 3.10
        typer.Argument(metavar="[CONFIG.toml]", help="settings; or give them as flags"),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="override a key of CONFIG"),
    ] = None,
    bundle: Annotated[Optional[str], typer.Option("--bundle", "-b")] = None,  # noqa: UP045
    source: Annotated[Optional[str], typer.Option("--source", "-s", help="URI")] = None,  # noqa: UP045
    ask: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--ask", "-q", help="the question; several share the work on the picture"),
    ] = None,
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TASK", help="classify, segment, anomaly or locate, and no question"),
    ] = None,
    label: Label = None,
    labels_file: LabelsFile = None,
    none: Annotated[bool, typer.Option("--none", help="classify: or none of the labels")] = False,
    bank: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="FILE", help="anomaly, locate: from edgevlm teach"),
    ] = None,
    known: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="FILE", help="banks of things that questions are told of"),
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="locate: look closer")] = False,
    mode: Annotated[Optional[str], typer.Option(help="freshest or every")] = None,  # noqa: UP045
    max_age: Annotated[Optional[float], typer.Option(help="seconds, hard")] = None,  # noqa: UP045
    rate: Annotated[Optional[float], typer.Option(help="frames per second looked at")] = None,  # noqa: UP045
    reuse_every: Annotated[float | None, typer.Option(help="seconds between reuse events")] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="play a file at its pace")] = False,
    max_tokens: Annotated[Optional[int], typer.Option(help="of an answer")] = None,  # noqa: UP045
    temperature: Annotated[Optional[float], typer.Option()] = None,  # noqa: UP045
    top_p: Annotated[Optional[float], typer.Option()] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option()] = None,  # noqa: UP045
    schema: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="JSON Schema that answers follow"),
    ] = None,
    window: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SECONDS", help="show frames of the last 8s beside the newest"),
    ] = None,
    no_draft: Annotated[bool, typer.Option("--no-draft", help="guess no tokens")] = False,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="answer unchanged scenes too")] = False,
    sink: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--sink", metavar="URI", help="events go there too; see: edgevlm list sinks"),
    ] = None,
    record: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="DIR", help="keep frames and decisions there, for edgevlm replay"),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(help="frames")] = None,  # noqa: UP045
    duration: Annotated[Optional[float], typer.Option(help="seconds")] = None,  # noqa: UP045
    backend: Annotated[Optional[str], typer.Option(help="see: edgevlm list backends")] = None,  # noqa: UP045
    verify: Annotated[Optional[str], typer.Option(help="always, once or size")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], typer.Option(help="0: physical cores")] = None,  # noqa: UP045
    fallback: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="ort-cpu or ort-cuda: answers until --backend can"),
    ] = None,
    isolate: Annotated[
        bool, typer.Option("--isolate", help="the model in a process that is replaced if it fails")
    ] = False,
    visual_tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="of a picture, one of the bundle's budgets"),
    ] = None,
    trust_engines: Annotated[
        bool, typer.Option("--trust-engines", help="load engines that this device did not make")
    ] = False,
    overcommit: Annotated[
        bool, typer.Option("--overcommit", help="run streams whose promised rates do not fit")
    ] = False,
) -> int:
    """Print one JSON event a line, and a summary at the end."""
    flags = {
        "bundle": bundle,
        "ask": ask or None,
        "task.kind": task,
        "task.labels": labels(label or [], labels_file) if label or labels_file else None,
        "task.none": none or None,
        "task.banks": bank or None,
        "task.small": small or None,
        "known": known or None,
        "source.uri": source,
        "source.realtime": realtime or None,
        "policy.mode": mode,
        "policy.max_age_s": max_age,
        "policy.rate_hz": rate,
        "policy.reuse_every_s": reuse_every,
        "policy.gate": False if no_gate else None,
        "generation.max_tokens": max_tokens,
        "generation.temperature": temperature,
        "generation.top_p": top_p,
        "generation.seed": seed,
        "generation.schema": schema,
        "window.seconds": window,
        "generation.draft": False if no_draft else None,
        "limits.frames": limit,
        "limits.duration_s": duration,
        "sinks": sink or None,
        "record": record,
        "engine.backend": backend,
        "engine.threads": threads,
        "engine.verify": verify,
        "engine.trust_engines": trust_engines or None,
        "engine.fallback": fallback,
        "engine.isolate": isolate or None,
        "engine.visual_tokens": visual_tokens,
        "overcommit": overcommit or None,
    }
    return _stream(_resolve(config, settings or [], flags))


def _resolve(
    path: Path | None, settings: list[str], flags: dict[str, Any]
) -> RunConfig | BoxConfig:
    from edgevlm.box import BoxConfig, load_settings, make_settings
    from edgevlm.errors import ConfigError

    given = {key: value for key, value in flags.items() if value is not None}
    if path is None:
        wanted = ("bundle", "source.uri", "ask" if "task.kind" not in given else "task.kind")
        if lost := [f"--{k.split('.')[0]}" for k in wanted if k not in given]:
            raise ConfigError(f"run needs {', '.join(lost)}, or a CONFIG.toml")
        if settings:
            raise ConfigError("--set overrides keys of a CONFIG.toml, and none was given")
        raw: dict[str, Any] = {}
    else:
        loaded = load_settings(path, settings)
        raw = loaded.model_dump(exclude_unset=True, by_alias=True)
        own = [key for key in given if key.split(".")[0] not in BoxConfig.model_fields]
        if isinstance(loaded, BoxConfig) and own:
            raise ConfigError(
                f"{path} has several streams, and {own[0]} is of one: --set streams.NAME.{own[0]}="
            )
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        target = raw.setdefault(section, {}) if section else raw
        target[name] = value
    return make_settings(raw)


def _stream(config: RunConfig | BoxConfig) -> int:
    from edgevlm.box import BoxConfig
    from edgevlm.cli.console import to_stderr
    from edgevlm.event import SummaryEvent
    from edgevlm.runtime.stream.run import run
    from edgevlm.runtime.stream.sinks.base import Told
    from edgevlm.runtime.stream.sinks.jsonl import JsonLinesSink

    stop = _StopSignal()
    stdout = JsonLinesSink(sys.stdout)
    many = isinstance(config, BoxConfig)
    for event in run(config, stopped=stop, note=lambda said: to_stderr().print(said)):
        stdout.write(Told(event))
        if isinstance(event, SummaryEvent):
            name = f"{event.stream}: " if many else ""
            to_stderr().print(name + _sentence(event))
    return 130 if stop.received == signal.SIGINT else 0


def _sentence(summary: SummaryEvent) -> str:
    frames, age = summary.frames, summary.age_ms
    dropped = ", ".join(f"{n} {reason}" for reason, n in frames.dropped.items()) or "none"
    ages = "no answer" if age.p50 is None else f"age p50 {age.p50:.0f} ms, p95 {age.p95:.0f} ms"
    return (
        f"{frames.read} frames: {frames.answered} answered, {frames.reused} reused, "
        f"dropped {dropped}, {frames.failed} failed; {ages}; "
        f"{summary.answers_per_s:.2f} answers/s; peak RSS {summary.peak_rss_mb:.0f} MB"
    )
