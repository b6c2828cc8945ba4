"""What a wheel holds, and what an installation can resolve."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, built from a copy of the sources without any network."""
    pytest.importorskip("setuptools", "77", reason="building a wheel needs setuptools")
    copy = tmp_path_factory.mktemp("sources")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("edgevlm", "export", "runtime"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--no-index", "--wheel-dir", str(built), str(copy)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    (archive,) = built.glob("*.whl")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(built / "unpacked")
    return built / "unpacked"


def test_the_wheel_holds_every_module_and_no_test(wheel: Path):
    expected = {
        Path(*name.split("."), module.name).as_posix()
        for name in packages()
        for module in folder_of(name).glob("*.py")
    }
    held = {p.relative_to(wheel).as_posix() for p in wheel.rglob("*.py")}
    assert held == expected
    assert (wheel / "edgevlm" / "py.typed").is_file()
    assert not any(p.is_symlink() for p in wheel.rglob("*"))


def folder_of(package: str) -> Path:
    """Where the sources of a package lie."""
    _, *rest = package.split(".")
    inside = ROOT.joinpath(*rest) if rest[:1] in (["export"], ["runtime"]) else None
    return inside or ROOT.joinpath("edgevlm", *rest)


def test_the_wheel_runs_without_the_checkout(wheel: Path):
    code = "import edgevlm, edgevlm.export.pipeline; edgevlm.load; print(edgevlm.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/", env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).is_relative_to(wheel)


def test_the_command_is_what_python_m_edgevlm_runs():
    module, _, name = PROJECT["project"]["scripts"]["edgevlm"].partition(":")
    assert (module, name) == ("edgevlm.__main__", "main")
    assert callable(getattr(importlib.import_module(module), name))


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
