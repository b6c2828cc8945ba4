"""The page of models: every family is there, and what is computed is what is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.make_models import HEAD, published
from docs.measured import FAMILIES as MEASURED
from docs.published import CHECKPOINTS, FRAMES, Published, table, visual_rows
from edgevlm.registry import FAMILIES

PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]


@pytest.mark.parametrize("name", FAMILIES.entries)
def test_every_family_has_its_certificates(name: str):
    (written, *_) = [shown for shown in MEASURED if name in shown.split(" + ")]
    precisions = [row[1] for row in ROWS if row[0] == written]
    assert precisions[:3] == ["fp32", "fp16", "int8"]
    assert all("refused" not in row[-1] for row in ROWS if row[0] == written)


def test_in_float32_every_family_keeps_every_gate():
    full = [row for row in ROWS if row[1] == "fp32"]
    assert len(full) == len(MEASURED) + 1  # and nano
    assert {row[-1] for row in full} == {"kept"}


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda one: one.name)
def test_visual_rows_are_what_the_runtime_makes(checkpoint: Published):
    (written,) = [row for row in ROWS if row[1] == checkpoint.name]
    assert written[3:5] == [str(visual_rows(checkpoint, *frame)) for frame in FRAMES]


def test_the_table_of_published_checkpoints_is_what_the_script_writes():
    for row in table():
        assert row in ROWS
    assert {one.family for one in CHECKPOINTS} <= FAMILIES.entries.keys()


def test_the_page_says_what_the_script_says_around_its_tables():
    assert PAGE.startswith(HEAD)
    assert PAGE.endswith(published())
