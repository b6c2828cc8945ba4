"""``edgevlm replay``: a recording, answered again by another bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from edgevlm.runtime.stream.recording.diff import Diff


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="made by edgevlm run --record DIR")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="answers this time")],
    ask: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--ask", "-q", help="another question; of several, all of them in order"),
    ] = None,
    backend: Annotated[Optional[str], typer.Option(help="see: edgevlm list backends")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], typer.Option(help="0: physical cores")] = None,  # noqa: UP045
    picture: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="PNG", help="the frames whose answers differ"),
    ] = None,
    events: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--events", metavar="FILE", help="write the replayed events there"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the diff as JSON")] = False,
) -> None:
    """Ask a bundle about what a recorded run asked about, and print what it says otherwise."""
    from edgevlm.cli.console import progress, to_stderr, write_json
    from edgevlm.runtime.stream.recording.diff import compare
    from edgevlm.runtime.stream.recording.format import read_events, read_header
    from edgevlm.runtime.stream.recording.replay import replay, replay_config
    from edgevlm.runtime.stream.recording.sheet import contact_sheet

    header = read_header(folder)
    recorded = list(read_events(folder))
    changes: dict[str, Any] = {"bundle": bundle}
    if ask:
        changes["ask"] = ask
    engine = {"backend": backend, "threads": threads}
    changes["engine"] = {key: value for key, value in engine.items() if value is not None}
    config = replay_config(header, changes)
    total = sum(e["kind"] == "answer" and not e["reused"] for e in recorded)
    replayed = []
    with progress("replay") as report:
        for event in replay(folder, config):
            body = event.model_dump(mode="json")
            replayed.append(body)
            if body["kind"] == "answer" and not body["reused"]:
                done = sum(e["kind"] == "answer" and not e["reused"] for e in replayed)
                report(done, max(total, done), f"frame {body['frame']}")
    if events is not None:
        import json

        lines = [json.dumps(body, ensure_ascii=False) + "\n" for body in replayed]
        events.write_text("".join(lines), "utf-8")
    before, after = header.settings().ask, config.ask
    diff = compare(recorded, replayed, [q.text for q in before], [q.text for q in after])
    if as_json:
        write_json(_as_json(diff))
    else:
        _print(diff)
    if picture is not None:
        contact_sheet(folder, diff.changed).save(picture)
        to_stderr().print(f"{picture}: {len(diff.changed)} frames whose answers differ")


def _as_json(diff: Diff) -> dict[str, Any]:
    return {
        "answers": len(diff.pairs),
        "changed": [
            {
                "frame": pair.frame,
                "question": pair.question,
                "media_s": pair.media_s,
                "before": _said(pair.before),
                "after": _said(pair.after),
                "fields": pair.fields,
            }
            for pair in diff.changed
        ],
        "states": {"gone": diff.states_gone, "new": diff.states_new},
    }


def _said(body: Any) -> dict[str, Any] | None:
    if body is None:
        return None
    return {key: body[key] for key in ("text", "answer", "finish_reason")}


def _print(diff: Diff) -> None:
    from edgevlm.cli.console import to_stdout

    out = to_stdout()
    several = len({pair.question for pair in diff.pairs}) > 1
    for pair in diff.changed:
        at = "" if pair.media_s is None else f"  {pair.media_s:.3f} s"
        fields = f"  {', '.join(pair.fields)}" if pair.fields else ""
        about = f"  {pair.question}" if several else ""
        out.print(f"frame {pair.frame}{at}{about}{fields}", markup=False)
        for sign, body in (("-", pair.before), ("+", pair.after)):
            text = "(no answer)" if body is None else body["text"]
            out.print(f"  {sign} {text}", markup=False)
    for sign, states in (("-", diff.states_gone), ("+", diff.states_new)):
        for rule, phase, frame in states:
            out.print(f"  {sign} state {rule}: {phase} at frame {frame}", markup=False)
    changed = len(diff.changed)
    same = len(diff.pairs) - changed
    out.print(f"{len(diff.pairs)} answers: {same} the same, {changed} changed", markup=False)
