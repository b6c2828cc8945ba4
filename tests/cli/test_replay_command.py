from __future__ import annotations

import json

from PIL import Image


def test_a_recording_is_asked_again_and_the_diff_has_a_picture(nano, edgevlm, tmp_path, photograph):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("coffee.png", "astronaut.png"):
        with Image.open(photograph(name)) as picture:
            picture.convert("RGB").resize((320, 240)).save(folder / name)
    question = ["--ask", "What is it?", "--max-tokens", "5"]
    run = edgevlm("run", "-b", nano.root, "-s", folder, *question, "--record", "recorded")
    assert run.returncode == 0, run.stderr
    same = edgevlm("replay", "recorded", "-b", nano.root)
    assert same.returncode == 0, same.stderr
    assert same.stdout == "2 answers: 2 the same, 0 changed\n"
    other = edgevlm(
        "replay", "recorded", "-b", nano.root, "--ask", "Name a colour.", "--json",
        "-o", "diff.png", "--events", "again.jsonl",
    )  # fmt: skip
    assert other.returncode == 0, other.stderr
    diff = json.loads(other.stdout)
    assert diff["answers"] == 2
    assert diff["changed"]
    assert all(c["before"]["text"] != c["after"]["text"] for c in diff["changed"])
    with Image.open(tmp_path / "diff.png") as sheet:
        assert sheet.width > 800
    kinds = [
        json.loads(line)["kind"] for line in (tmp_path / "again.jsonl").read_text().splitlines()
    ]
    assert kinds == ["answer", "answer", "summary"]


def test_what_is_no_recording_is_refused(nano, edgevlm, tmp_path):
    done = edgevlm("replay", tmp_path, "-b", nano.root)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no recording" in done.stderr


def test_a_run_with_a_window_replays_to_the_same_answers(nano, edgevlm, tmp_path, photograph):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("coffee.png", "chelsea.png", "astronaut.png"):
        with Image.open(photograph(name)) as picture:
            picture.convert("RGB").resize((320, 240)).save(folder / name)
    words = ["--ask", "What is new?", "--max-tokens", "5", "--window", "1m"]
    run = edgevlm("run", "-b", nano.root, "-s", folder, *words, "--record", "recorded")
    assert run.returncode == 0, run.stderr
    *answers, _ = map(json.loads, run.stdout.splitlines())
    assert [[w["frame"] for w in a["window"]] for a in answers] == [[0], [0, 1], [0, 1, 2]]
    again = edgevlm("replay", "recorded", "-b", nano.root)
    assert again.stdout == "3 answers: 3 the same, 0 changed\n", again.stderr
