"""A package index of empty wheels on the disk, for the real pip."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from edgevlm.pack.own_wheel import own_wheel
from tests.conftest import ROOT


class Index:
    """A folder that pip takes for the whole world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, version: str = "1.0", tag: str = "py3-none-any",
            requires: tuple[str, ...] = (), licence: str = "MIT") -> Path:  # fmt: skip
        """Put a wheel there."""
        stem = f"{name.replace('-', '_')}-{version}"
        lines = [f"Name: {name}", f"Version: {version}", f"License-Expression: {licence}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        path = self.folder / f"{stem}-{tag}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            folder = f"{stem}.dist-info"
            wheel.writestr(f"{folder}/METADATA", "Metadata-Version: 2.4\n" + "\n".join(lines))
            wheel.writestr(f"{folder}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
            wheel.writestr(f"{folder}/RECORD", "")
            wheel.writestr(f"{folder}/licenses/LICENSE", f"the licence of {name}")
        return path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edgevlm's own wheel, built once: seconds of setuptools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip reads it as: without isolation
        patch.setenv("PIP_NO_INDEX", "1")
        return own_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An empty one; no other is asked."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture
def full_index(index: Index, built: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """One that has what edgevlm[cpu] needs on a Jetson with Python 3.10, and pip."""
    monkeypatch.setattr(
        "edgevlm.pack.wheels.own_wheel", lambda folder: Path(shutil.copy(built, folder))
    )
    index.add("pip", "26.0")
    index.add("tomli", "2.5")
    index.add("onnxruntime", "1.23.2", "cp310-cp310-manylinux_2_27_aarch64")
    index.add("numpy", "2.2.6", "cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64")
    index.add("av", "17.1", "cp310-cp310-manylinux_2_28_aarch64")
    index.add("opencv-python-headless", "5.0", "cp37-abi3-manylinux_2_28_aarch64")
    index.add("onnx", "1.23", "cp310-cp310-manylinux_2_28_aarch64")
    index.add("cuda-bindings", "12.9.4", "cp310-cp310-manylinux_2_24_aarch64")
    index.add("cuda-bindings", "13.5.0", "cp310-cp310-manylinux_2_24_aarch64")
    index.add("exceptiongroup", "1.3")
    for name in declared() - {"numpy", "av", "opencv-python-headless", "tomli"}:
        index.add(name, "99", requires=('exceptiongroup; python_version < "3.11"',))
    return index


def declared() -> set[str]:
    """The names under dependencies in pyproject.toml."""
    from packaging.requirements import Requirement

    from tests.test_packaging import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {Requirement(line).name for line in project["dependencies"]}
