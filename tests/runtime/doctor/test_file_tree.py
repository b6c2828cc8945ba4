"""Links, absent and unreadable files, as the one reader gives them to the probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.runtime.device.doctor.tree import FileTree
from tests.runtime.doctor.trees import lay


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    return lay(tmp_path / "root", {
        "/usr/local/cuda-12.6/version.json": "{}",
        "/usr/local/cuda": "-> /etc/alternatives/cuda",
        "/etc/alternatives/cuda": "-> /usr/local/cuda-12.6",
        "/etc/relative": "-> ../usr/local/cuda/version.json",
        "/etc/outside": "-> ../../../../../../etc/passwd",
        "/etc/loop": "-> /etc/loop",
        "/sys/number": "42\n",
        "/sys/text": "a model\0",
    })  # fmt: skip


def test_links_stay_inside_the_root(tree: FileTree):
    assert tree.text("/usr/local/cuda/version.json") == "{}"
    assert tree.text("/etc/relative") == "{}"
    assert tree.real("/etc/relative") == tree.root / "usr/local/cuda-12.6/version.json"
    assert tree.text("/etc/outside") is None
    assert tree.real("/etc/outside") == tree.root / "etc/passwd"
    assert tree.target("/usr/local/cuda") == "/etc/alternatives/cuda"
    assert tree.target("/sys/number") is None


def test_what_is_absent_is_empty_and_no_error(tree: FileTree):
    assert tree.text("/gone") is None
    assert tree.text("/etc") is None
    assert tree.text("/etc/loop/x") is None
    assert tree.number("/sys/text") is None
    assert tree.names("/gone") == []
    assert not tree.exists("/etc/loop")


def test_numbers_texts_and_names(tree: FileTree):
    assert tree.number("/sys/number") == 42
    assert tree.text("/sys/text") == "a model"
    assert tree.names("/sys", "n*") == ["/sys/number"]
    assert tree.exists("/usr/local/cuda")
    assert not tree.live
    assert FileTree().live
