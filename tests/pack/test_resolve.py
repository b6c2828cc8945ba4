"""Which wheels a board needs: names and tags, markers of another Python, what is not to be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from edgevlm.errors import ConfigError, PackError
from edgevlm.pack.board import Board
from edgevlm.pack.resolve import Pinned, resolve, walk
from edgevlm.pack.wheels import Wheel
from tests.pack.conftest import Index

JETPACK_6, JETPACK_7 = Board("3.10", "aarch64"), Board("3.12", "aarch64")
OTHER = "3.10" if sys.version_info[:2] != (3, 10) else "3.12"  # not the Python of these tests


@pytest.mark.parametrize(
    ("python", "arch", "message"),
    [
        ("3.8", "aarch64", "JetPack 6 has 3.10"),
        ("310", "aarch64", "written as 3.10"),
        ("3.10.12", "aarch64", "written as 3.10"),
        ("3.10", "arm64", "aarch64 or x86_64"),
    ],
)
def test_a_board_is_named_as_the_contract_says(python: str, arch: str, message: str):
    with pytest.raises(ConfigError, match=message):
        Board(python, arch)


@pytest.mark.parametrize(
    ("file", "six", "seven"),
    [
        ("a-1-cp310-cp310-manylinux_2_28_aarch64.whl", True, False),
        ("a-1-cp312-cp312-manylinux_2_34_aarch64.whl", False, True),
        ("a-1-cp37-abi3-manylinux2014_aarch64.whl", True, True),
        ("a-1-py3-none-any.whl", True, True),
        ("a-1-py2.py3-none-any.whl", True, True),
        ("a-1-py3-none-manylinux_2_35_aarch64.whl", True, True),
        ("a-1-cp310-cp310-manylinux_2_39_aarch64.whl", False, False),  # glibc of Ubuntu 24.04
        ("a-1-cp310-cp310-manylinux_2_28_x86_64.whl", False, False),
        ("a-1-cp310-cp310-musllinux_1_2_aarch64.whl", False, False),
    ],
)
def test_the_tags_that_a_board_takes(file: str, six: bool, seven: bool):
    _, _, _, tags = parse_wheel_filename(file)
    assert [bool(tags & board.tags) for board in (JETPACK_6, JETPACK_7)] == [six, seven]


def pinned(name: str, *requires: str, version: str = "1.0") -> Pinned:
    return Pinned(name=name, version=version, requires=requires, licence="MIT")


def reach(
    *wanted: str, found: list[Pinned], board: Board = JETPACK_6
) -> tuple[set[str], list[str]]:
    by_name = {item.name: item for item in found}
    return walk(map(Requirement, wanted), by_name, board.environment)


def test_what_another_python_needs_is_lacking_and_what_it_does_not_need_is_left_out():
    found = [pinned("a", 'old; python_version < "3.11"', 'new; python_version >= "3.11"'),
             pinned("new")]  # fmt: skip
    assert reach("a", found=found) == ({"a"}, ['old; python_version < "3.11"'])
    assert reach("a", found=found, board=JETPACK_7) == ({"a", "new"}, [])


def test_extras_bring_what_they_say_and_nothing_else():
    found = [pinned("a", "b[fast]"), pinned("b", 'c; extra == "fast"', 'd; extra == "slow"'),
             pinned("c"), pinned("d")]  # fmt: skip
    assert reach("a", found=found) == ({"a", "b", "c"}, [])


def test_a_version_that_the_boards_markers_exclude_is_lacking():
    found = [pinned("a", 'n<2; python_version < "3.11"'), pinned("n", version="2.3")]
    assert reach("a", found=found)[1] == ['n<2; python_version < "3.11"']


def test_circles_end():
    found = [pinned("a", "b"), pinned("b", "a[x]", 'b; extra == "x"')]
    assert reach("a", found=found) == ({"a", "b"}, [])


# With the real pip


def test_pip_is_asked_again_for_what_its_own_python_would_not_need(index: Index):
    index.add("top", requires=(f'only; python_version == "{OTHER}"',
                               f'never; python_version != "{OTHER}"'))  # fmt: skip
    index.add("only", "2.0", licence="Apache-2.0")
    index.add("never")
    found = resolve(["top"], Board(OTHER, "aarch64"))
    assert [(item.name, item.version) for item in found] == [("only", "2.0"), ("top", "1.0")]
    assert found[0].licence == "Apache-2.0"
    assert len(found[0].sha256) == 64


def test_the_boards_wheel_is_taken_and_not_this_machines(index: Index):
    for tag in ("cp310-cp310-manylinux_2_28_aarch64", "cp310-cp310-manylinux_2_28_x86_64"):
        index.add("native", "1.0", tag)
    index.add("native", "2.0", "cp310-cp310-manylinux_2_39_aarch64")  # of a newer glibc
    assert [item.version for item in resolve(["native"], JETPACK_6)] == ["1.0"]


def test_a_package_without_a_wheel_for_the_board_is_named(index: Index):
    index.add("top", requires=("native>=1",))
    index.add("native", "1.0", "cp310-cp310-manylinux_2_28_x86_64")
    with pytest.raises(PackError, match=r"no wheel of native>=1 .*aarch64, Python 3\.10"):
        resolve(["top"], JETPACK_6)


def test_requirements_that_contradict_each_other_are_an_error(index: Index):
    index.add("a", requires=("n<2",))
    index.add("b", requires=("n>=2",))
    index.add("n", "1.0")
    index.add("n", "2.0")
    with pytest.raises(PackError, match="pip cannot fetch the wheels"):
        resolve(["a", "b"], JETPACK_6)


def test_an_index_out_of_reach_is_said(index: Index, monkeypatch: pytest.MonkeyPatch):
    index.add("unrelated")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(PackError, match="index cannot be reached"):
        resolve(["numpy"], JETPACK_6)


def test_an_environment_without_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/false")

    def without_pip(*_: object, **__: object) -> object:
        from subprocess import CompletedProcess

        return CompletedProcess([], 1, "", "/usr/bin/python3: No module named pip\n")

    monkeypatch.setattr("subprocess.run", without_pip)
    with pytest.raises(PackError, match="python -m ensurepip"):
        resolve(["numpy"], JETPACK_6)


def test_licence_texts_come_out_of_the_wheel(index: Index):
    path = index.add("top")
    wheel = Wheel(path=path, name="top", version="1.0", licence="MIT", sha256="")
    assert wheel.licence_files() == {"LICENSE": b"the licence of top"}
    assert isinstance(path, Path)
