"""The archive: what is in it, that it is always the same, and what its installer refuses."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.cli.app import run_command
from edgevlm.errors import BundleCorrupt, PackError
from edgevlm.pack.archive import ArchiveWriter
from edgevlm.pack.board import Board
from edgevlm.pack.pack import pack
from tests.core.engines import add_engine
from tests.core.tiny import export_tiny
from tests.pack.conftest import Index, declared

JETPACK_6 = Board("3.10", "aarch64")
TOP = "edgevlm-tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_tiny(tmp_path_factory.mktemp("tiny"))


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


@pytest.mark.usefixtures("full_index")
def test_the_archive_holds_the_bundle_wheels_licences_and_their_hashes(
    tiny: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    words = ["pack", str(tiny.root), "-o", str(tmp_path / "board.tar"), "--python", "3.10",
             "--arch", "aarch64", "--json"]  # fmt: skip
    assert run_command(words) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["bundle_id"], said["python"], said["arch"]) == (tiny.id, "3.10", "aarch64")

    top = unpack(tmp_path / "board.tar", tmp_path / "board")
    assert top.name == f"edgevlm-{tiny.manifest.name}"
    assert open_bundle(top / "bundle", verify="always").id == tiny.id

    sums = dict(line.split("  ")[::-1] for line in (top / "SHA256SUMS").read_text().splitlines())
    present = {p.relative_to(top).as_posix(): p for p in top.rglob("*") if p.is_file()}
    assert sums == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in present.items()
        if name != "SHA256SUMS"
    }

    wheels = {p.name.split("-")[0].replace("_", "-"): p for p in (top / "wheels").iterdir()}
    needed = declared() | {
        "edgevlm",
        "pip",
        "onnxruntime",
        "onnx",
        "exceptiongroup",
        "cuda-bindings",
    }
    assert set(wheels) == {name.lower() for name in needed}
    assert "aarch64" in wheels["onnxruntime"].name
    assert "-12.9.4-" in wheels["cuda-bindings"].name  # of the CUDA of JetPack 6
    pins = dict(line.split(" ") for line in (top / "requirements.txt").read_text().splitlines())
    hashes = {"--hash=sha256:" + hashlib.sha256(p.read_bytes()).hexdigest()
              for p in wheels.values()}  # fmt: skip
    assert set(pins.values()) == hashes
    contents = json.loads((top / "pack.json").read_text())
    assert {w["name"]: w["licence"] for w in contents["wheels"]}["numpy"] == "MIT"
    assert (top / "LICENSES/numpy-2.2.6/LICENSE").read_text() == "the licence of numpy"
    assert (top / "LICENSES/edgevlm-0.1.0/LICENSE").is_file()
    assert os.access(top / "install.sh", os.X_OK)
    assert "@" not in (top / "install.sh").read_text().replace('"$@"', "")


@pytest.mark.usefixtures("full_index")
def test_the_same_bundle_and_wheels_give_the_same_bytes(tiny: Bundle, tmp_path: Path):
    for name in ("a.tar", "b.tar"):
        pack(tiny.root, tmp_path / name, JETPACK_6)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.usefixtures("full_index")
def test_what_engines_need_besides_is_said(tiny: Bundle, tmp_path: Path):
    with_engine = add_engine(Path(shutil.copytree(tiny.root, tmp_path / "bundle")))
    done = pack(with_engine.root, tmp_path / "board.tar", JETPACK_6)
    (line,) = done.system
    assert "python3-libnvinfer" in line
    top = unpack(tmp_path / "board.tar", tmp_path / "board")
    assert line in (top / "README.txt").read_text()
    assert "--trust-engines" in (top / "README.txt").read_text()
    assert list((top / "bundle/engines").rglob("*.engine"))


# What goes wrong leaves nothing behind


def test_a_missing_wheel_is_one_line_and_no_archive(
    tiny: Bundle, full_index: Index, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    next(full_index.folder.glob("onnxruntime-*")).unlink()
    target = tmp_path / "out" / "board.tar"
    target.parent.mkdir()
    words = ["pack", str(tiny.root), "-o", str(target), "--python", "3.10", "--arch", "aarch64"]
    assert run_command(words) == 1
    err = capfd.readouterr().err
    assert "there is no wheel of onnxruntime>=1.23 for aarch64, Python 3.10" in err
    assert list(target.parent.iterdir()) == []


def test_targets_that_are_refused(tiny: Bundle, tmp_path: Path):
    (tmp_path / "there.tar").write_text("kept")
    for target, message in (
        (tmp_path / "there.tar", "--force"),
        (tmp_path, "name a file"),
        (tmp_path / "gone" / "board.tar", "make it first"),
    ):
        with pytest.raises(PackError, match=message):
            pack(tiny.root, target, JETPACK_6)
    assert (tmp_path / "there.tar").read_text() == "kept"


def test_a_damaged_bundle_is_not_shipped(tiny: Bundle, tmp_path: Path):
    damaged = Path(shutil.copytree(tiny.root, tmp_path / "bundle"))
    path = damaged / "decoder.onnx.data"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(BundleCorrupt, match=r"decoder\.onnx\.data"):
        pack(damaged, tmp_path / "board.tar", JETPACK_6)
    assert not (tmp_path / "board.tar").exists()


def test_an_archive_that_is_not_committed_vanishes(tmp_path: Path):
    with pytest.raises(RuntimeError, match="in between"):  # noqa: SIM117, PT012
        with ArchiveWriter(tmp_path / "x.tar", "top") as archive:
            archive.add_bytes("a", b"b")
            raise RuntimeError("in between")
    assert list(tmp_path.iterdir()) == []


# edgevlm's own wheel


def test_an_installation_gives_back_the_wheel_that_it_came_from(built: Path, tmp_path: Path):
    again, installed = tmp_path / "again", tmp_path / "installed"
    again.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
         str(installed), str(built)],
        check=True, capture_output=True,
    )  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from edgevlm.pack.own_wheel import own_wheel\n"
        "print(own_wheel(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(again)],
        cwd="/", env={**os.environ, "PYTHONPATH": str(installed)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    second = Path(done.stdout.strip())
    assert second.name == built.name
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(second) as two:
        record = "edgevlm-0.1.0.dist-info/RECORD"
        assert set(one.namelist()) == set(two.namelist()) >= {"edgevlm/pack/install.sh"}
        for name in set(one.namelist()) - {record}:
            assert one.read(name) == two.read(name), name
        assert sorted(one.read(record).splitlines()) == sorted(two.read(record).splitlines())


# The installer's own checks, before it calls pip

SCRIPT = (Path(__file__).parents[2] / "edgevlm" / "pack" / "install.sh").read_text()


def script(folder: Path, arch: str, python: str) -> Path:
    """An unpacked archive with one file in it besides the installer."""
    path = folder / "install.sh"
    for mark, value in (("@ARCH@", arch), ("@PYTHON@", python), ("@PIP@", "pip.whl")):
        path.write_text((path.read_text() if path.exists() else SCRIPT).replace(mark, value))
    (folder / "pack.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  pack.json\n")
    return path


def install(path: Path, *words: str) -> str:
    done = subprocess.run(
        ["sh", str(path), *words], env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return done.stderr


HERE = (platform.machine(), f"{sys.version_info.major}.{sys.version_info.minor}")


@pytest.mark.parametrize(
    ("arch", "python", "message"),
    [("riscv64", HERE[1], "these wheels are for riscv64"), (HERE[0], "3.9", "for Python 3.9")],
)
def test_the_installer_refuses_another_machine(
    tmp_path: Path, arch: str, python: str, message: str
):
    assert message in install(script(tmp_path, arch, python))
    assert not (tmp_path / ".venv").exists()


def test_the_installer_refuses_a_changed_file_and_a_folder_that_is_there(tmp_path: Path):
    path = script(tmp_path, *HERE)
    assert "already there" in install(path, str(tmp_path))
    (tmp_path / "pack.json").write_text("{ }")
    assert "differs from SHA256SUMS" in install(path)
    assert not (tmp_path / ".venv").exists()
