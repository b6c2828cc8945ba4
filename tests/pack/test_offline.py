"""From a bundle to an answer on a machine without a network, with the registry's real wheels."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.pack.board import Board
from edgevlm.pack.own_wheel import own_wheel
from edgevlm.pack.pack import pack

pytestmark = pytest.mark.slow

# Whoever asks a network, asks a port where nobody listens.
NOWHERE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return [name.rpartition("/")[2] for name in opened.getnames() if "/wheels/" in name]


AARCH64 = 183  # EM_AARCH64 in an ELF header, at byte 18


def machines(archive: Path, board: Board, folder: Path) -> set[int]:
    """Which processors the libraries are for that the archive alone installs on `board`."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    top = folder / "edgevlm-nano"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links",
         str(top / "wheels"), "--require-hashes", "-r", str(top / "requirements.txt"),
         "--no-compile", "--target", str(folder / "site"), *board.pip_options],
        check=True, env={**os.environ, **NOWHERE}, timeout=250,
    )  # fmt: skip
    heads = (p.read_bytes()[:20] for p in (folder / "site").rglob("*.so*") if p.is_file())
    return {int.from_bytes(h[18:20], "little") for h in heads if h[:4] == b"\x7fELF"}


def test_the_same_sources_make_the_same_wheel(built: Path, tmp_path: Path):
    assert own_wheel(tmp_path).read_bytes() == built.read_bytes()


def test_installed_from_the_archive_it_answers_without_a_network(
    nano: Bundle, photograph: Callable[[str], Path], tmp_path: Path
):
    pack(nano.root, tmp_path / "here.tar", Board.here())
    with tarfile.open(tmp_path / "here.tar") as opened:
        opened.extractall(tmp_path, filter="data")
    top, venv = tmp_path / "edgevlm-nano", tmp_path / "venv"
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON": sys.executable, **NOWHERE}
    subprocess.run(["sh", top / "install.sh", venv], env=alone, check=True, timeout=250)

    asked = [venv / "bin/edgevlm", "ask", top / "bundle", photograph("coffee.png"),
             "What is in the picture?"]  # fmt: skip
    done = subprocess.run(
        asked, env=alone, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=100
    )
    assert "espresso" in done.stdout
    installed = {p.name.split("-")[0].lower() for p in venv.rglob("*.dist-info")}
    assert "edgevlm" in installed
    assert not {"torch", "transformers", "onnx"} & installed
    verified = [venv / "bin/edgevlm", "verify", top / "bundle"]
    subprocess.run(verified, env=alone, check=True, capture_output=True, timeout=100)


def test_ended_in_the_middle_it_leaves_nothing_behind(nano: Bundle, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as index:  # which takes calls and says nothing
        where = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        alone = {**clean, "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_BUILD_ISOLATION": "0",
                 "PIP_INDEX_URL": where, "TMPDIR": str(tmp_path)}  # fmt: skip
        command = [sys.executable, "-m", "edgevlm", "pack", str(nano.root), "-o",
                   str(tmp_path / "board.tar")]  # fmt: skip
        with subprocess.Popen(command, env=alone, stderr=subprocess.DEVNULL) as process:
            index.settimeout(120)
            caller, _ = index.accept()
            with caller:
                process.terminate()
                assert process.wait(30) == 128 + signal.SIGTERM
    assert [p.name for p in tmp_path.iterdir()] == []


@pytest.mark.parametrize(("python", "tag"), [("3.10", "cp310"), ("3.12", "cp312")])
def test_a_jetsons_wheels_are_found_from_here(nano: Bundle, tmp_path: Path, python: str, tag: str):
    archive = tmp_path / "board.tar"
    pack(nano.root, archive, Board(python, "aarch64"))
    wheels = names(archive)
    for name in wheels:
        interpreter, abi, where = name.removesuffix(".whl").rsplit("-", 3)[1:]
        assert (where == "any") != ("aarch64" in where), name
        assert "x86_64" not in where
        assert (interpreter, abi) == (tag, tag) or abi in ("abi3", "none"), name
        glibc = [int(n) for n in re.findall(r"manylinux_2_(\d+)_", where)]
        assert not glibc or min(glibc) <= 35, name  # Ubuntu 22.04
    found = {name.split("-")[0] for name in wheels}
    assert {"edgevlm", "onnxruntime", "numpy", "av", "opencv_python_headless", "pip"} <= found
    assert "onnx" in found  # for `edgevlm build` on the board
    (bindings,) = (name.split("-")[1] for name in wheels if name.startswith("cuda_bindings-"))
    assert bindings.split(".")[0] == {"3.10": "12", "3.12": "13"}[python]  # JetPack's CUDA
    assert not {"torch", "transformers", "tensorrt_rtx_cu13"} & found
    assert ("exceptiongroup" in found) == (python == "3.10")  # a marker that pip evaluates here
    assert archive.stat().st_size < 400e6
    assert machines(archive, Board(python, "aarch64"), tmp_path) == {AARCH64}
