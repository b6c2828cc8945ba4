"""What the pages say exists: commands and flags, make targets, modules, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from edgevlm.box import make_settings
from edgevlm.cli.app import app
from edgevlm.runtime.stream.sources.uri import scheme_of
from tests.test_packaging import tomllib

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md",
                ROOT / "DESIGN.md"])  # fmt: skip
EVERYWHERE = {"--version", "--debug", "--help"}
# Flags of other programs that the text speaks of by themselves.
FOREIGN = {"--no-deps", "--system-site-packages", "--runtime", "--gpus", "--device"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
OURS = re.compile(
    r"(?:sudo (?:-u \S+ )?)?(?:[A-Z_]+=\S+ )*(?:python -m |\S*/)?edgevlm\s+(?=[a-z.])"
)


class Said(NamedTuple):
    """One piece of code on a page."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def shell_lines(page: Path) -> Iterator[Said]:
    """The commands in fenced blocks, prompts taken off, continued lines joined."""
    for language, block in FENCE.findall(page.read_text("utf-8")):
        if language not in ("", "console", "sh", "bash", "shell"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if language != "console" or line.startswith("$ "):
                yield Said(page.name, line.removeprefix("$ ").strip())


def spans(page: Path) -> Iterator[Said]:
    """Code inside running text; `\\|` is how a table writes a bar."""
    for text in SPAN.findall(FENCE.sub("", page.read_text("utf-8"))):
        yield Said(page.name, text.replace("\\|", "|"))


@cache
def verbs() -> dict[str, Any]:
    return dict(get_command(app).commands)  # type: ignore[attr-defined]


def flags_of(verb: str) -> set[str]:
    command = verbs()[verb]
    return {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)} | EVERYWHERE


def wrong(text: str) -> str:
    """What the command line `text` has that the program has not."""
    words = re.split(r"\s+(?:#|&&|\||>|2>)", OURS.sub("", text, count=1))[0].split()
    verb, *others = [w for w in words if w not in EVERYWHERE]
    if verb == "...":
        return ""
    if verb not in verbs():
        return f"no command {verb!r}"
    given = {re.split(r"[=|]", w.strip("[],;"))[0] for w in others if re.match(r"\[?--?[a-z]", w)}
    lost = sorted(given - flags_of(verb))
    return f"{verb} has no {', '.join(lost)}" if lost else ""


COMMANDS = [
    said for page in PAGES for said in (*shell_lines(page), *spans(page)) if OURS.match(said.text)
]


def test_the_pages_name_commands_at_all():
    assert len(COMMANDS) > 20
    assert {s.page for s in COMMANDS} >= {"README.md", "add-a-family.md", "jetson.md"}


@pytest.mark.parametrize("said", COMMANDS, ids=str)
def test_every_command_and_flag_on_a_page_exists(said: Said):
    assert wrong(said.text) == ""


def test_what_does_not_exist_is_noticed():
    assert wrong("edgevlm frobnicate x") == "no command 'frobnicate'"
    assert wrong("edgevlm ask bundle --max-token 3 > out") == "ask has no --max-token"
    assert wrong("edgevlm ask bundle --max-tokens 3 # --nonsense") == ""


def test_flags_spoken_of_by_themselves_belong_to_a_command():
    known = set.union(*(flags_of(verb) for verb in verbs())) | FOREIGN
    for module in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', module.read_text("utf-8")))
    strange = [
        str(s) for page in PAGES for s in spans(page)
        if s.text.startswith("--") and re.split(r"[ =|\[]", s.text)[0] not in known
    ]  # fmt: skip
    assert strange == []


def test_make_targets_and_modules_on_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z][a-z-]*):", makefile))
    for page in PAGES:
        for said in (*shell_lines(page), *spans(page)):
            if match := re.match(r"make ([a-z][a-z-]*)", said.text):
                assert match[1] in targets, said
            if match := re.search(r"python -m (benchmarks[\w.]*)", said.text):
                module = ROOT / match[1].replace(".", "/")
                assert module.with_suffix(".py").is_file() or module.is_dir(), said


def test_files_named_on_the_pages_exist():
    ours = re.compile(r"(?:configs|docs|tests|export|runtime|benchmarks|edgevlm)/[\w./-]+")
    lost = [
        str(s) for page in PAGES for s in spans(page)
        if ours.fullmatch(s.text) and not re.search("[A-Z]{2}", s.text)
        and not (ROOT / s.text).exists()
    ]  # fmt: skip
    assert lost == []


def test_sources_on_the_pages_have_a_known_scheme():
    given = [w for said in COMMANDS for w in re.findall(r"(?:--source|-s) (\S+)", said.text)]
    assert len(given) >= 3
    for uri in given:
        scheme_of(uri.strip('"'))


def test_settings_on_the_pages_are_settings():
    blocks = [
        block
        for page in PAGES
        for language, block in FENCE.findall(page.read_text("utf-8"))
        if language == "toml" and "bundle =" in block
    ]
    assert blocks
    for block in blocks:
        make_settings(tomllib.loads(block))
