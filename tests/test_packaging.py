"""What a wheel holds, and what an installation can resolve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgevlm import registry
from edgevlm.registry import Registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
REGISTRIES = {value.kind: value for value in vars(registry).values() if isinstance(value, Registry)}
ENTRIES = [(kind, name) for kind, made in REGISTRIES.items() for name in made.entries]


def packages() -> set[str]:
    """Every folder with an ``__init__.py``, under the name by which it is imported."""
    found = set()
    for top, prefix in (("edgevlm", ""), ("export", "edgevlm."), ("runtime", "edgevlm.")):
        for folder, _, names in os.walk(ROOT / top):  # does not follow the two links
            if "__init__.py" in names:
                found.add(prefix + ".".join(Path(folder).relative_to(ROOT).parts))
    return found


def test_every_package_is_in_the_wheel():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == packages()
    assert len(listed) == len(set(listed))


def test_every_folder_with_a_module_is_a_package():
    tops = [ROOT / "edgevlm", ROOT / "export", ROOT / "runtime"]
    folders = {path.parent for top in tops for path in top.rglob("*.py")}
    assert [str(f) for f in sorted(folders) if not (f / "__init__.py").is_file()] == []


@pytest.mark.parametrize("name", ["export", "runtime"])
def test_the_symlink_is_relative_and_committed_as_a_link(name: str):
    link = ROOT / "edgevlm" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"  # noqa: PTH115 - the raw text is what matters
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "--stage", f"edgevlm/{name}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert listed.startswith("120000 ")
    assert listed.endswith(f"\tedgevlm/{name}\n")


def test_the_version_is_said_once():
    import edgevlm

    assert PROJECT["project"]["version"] == edgevlm.__version__


def test_the_typing_marker_is_there_and_shipped():
    assert (ROOT / "edgevlm" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["edgevlm"]


def test_there_are_five_registries():
    assert set(REGISTRIES) == {"backends", "sources", "sinks", "compressors", "families"}


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_a_registered_name_resolves(kind: str, name: str):
    entry = REGISTRIES[kind].entries[name]
    found = REGISTRIES[kind].resolve(name)
    if kind == "families":
        assert found.model_type == name
    else:
        assert isinstance(found, type)
        assert found.__name__ == entry.target.partition(":")[2]
    assert entry.summary
