"""A bundle and everything that runs it become one file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgevlm.bundle import Bundle, open_bundle
from edgevlm.bundle.files import list_files
from edgevlm.errors import PackError
from edgevlm.pack.archive import ArchiveWriter
from edgevlm.pack.board import Board
from edgevlm.pack.wheels import Wheel, gather

Report = Callable[[int, int, str], None]
# What a target's engines want of the board that no wheel can bring.
_SYSTEM = {
    "trt": "JetPack's TensorRT in the version that the engines were built with: "
    "sudo apt install tensorrt python3-libnvinfer; install with --system-site-packages",
    "ort-trt": "an onnxruntime-gpu that was built for this board, and its TensorRT: docs/jetson.md",
    "trt-rtx": "an RTX card of that generation and its driver",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written.

    Args:
        archive: the file.
        size: its bytes.
        bundle_id: of the bundle in it.
        board: whom it is for.
        wheels: what is in it.
        system: what it needs of the board besides.
    """

    archive: Path
    size: int
    bundle_id: str
    board: Board
    wheels: list[Wheel]
    system: list[str]


def pack(
    bundle: Path, target: Path, board: Board, force: bool = False, report: Report | None = None
) -> Packed:
    """Write the archive ``target``.

    Args:
        bundle: folder or ``.evlm`` file.
        target: a file, by custom ``.tar``.
        board: whose wheels go in.
        force: replace what is there.
        report: called with steps done, steps in all, and what comes next.

    Raises:
        BundleError: the bundle is missing or not intact.
        PackError: ``target`` is there and ``force`` is False; a package without a wheel for the
            board; an index out of reach.
    """
    say = report or (lambda *_: None)
    if target.is_dir() or (target.exists() and not force):
        remedy = "name a file" if target.is_dir() else "replace it with --force"
        raise PackError(f"{target} is already there; {remedy}")
    if not target.parent.is_dir():
        raise PackError(f"{target.parent} is no folder; make it first")
    say(0, 3, "check the bundle")
    opened = open_bundle(bundle, verify="always")
    say(1, 3, f"fetch wheels for {board.arch}, Python {board.python}")
    targets = tuple(sorted({name.partition(":")[0] for name in opened.manifest.engines}))
    with tempfile.TemporaryDirectory() as folder:
        wheels = gather(Path(folder), board)
        say(2, 3, "write the archive")
        system = [f"{name}: {_SYSTEM[name]}" for name in targets]
        with ArchiveWriter(target, f"edgevlm-{opened.manifest.name}") as archive:
            _fill(archive, opened, board, wheels, system)
            archive.commit()
    say(3, 3, "done")
    return Packed(archive=target, size=target.stat().st_size, bundle_id=opened.id, board=board,
                  wheels=wheels, system=system)  # fmt: skip


def _fill(
    archive: ArchiveWriter, opened: Bundle, board: Board, wheels: list[Wheel], system: list[str]
) -> None:
    pip = next(wheel for wheel in wheels if wheel.name == "pip")
    script = files("edgevlm.pack").joinpath("install.sh").read_text("utf-8")
    for mark, value in (("@ARCH@", board.arch), ("@PYTHON@", board.python),
                        ("@PIP@", pip.path.name)):  # fmt: skip
        script = script.replace(mark, value)
    archive.add_bytes("README.txt", _readme(opened, board, system).encode())
    archive.add_bytes("install.sh", script.encode(), mode=0o755)
    pins = [f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in wheels]
    archive.add_bytes("requirements.txt", "".join(sorted(pins)).encode())
    archive.add_bytes("pack.json", _contents(opened, board, wheels, system).encode())
    for name in sorted(list_files(opened.root)):
        archive.add_file(f"bundle/{name}", opened.root / name)
    for wheel in sorted(wheels, key=lambda w: w.path.name):
        archive.add_file(f"wheels/{wheel.path.name}", wheel.path)
    for wheel in sorted(wheels, key=lambda w: w.name):
        for name, text in wheel.licence_files().items():
            archive.add_bytes(f"LICENSES/{wheel.name}-{wheel.version}/{name}", text)


def _contents(opened: Bundle, board: Board, wheels: list[Wheel], system: list[str]) -> str:
    said = {
        "bundle": opened.manifest.name,
        "bundle_id": opened.id,
        "bundle_licence": opened.manifest.source.license,
        "python": board.python,
        "arch": board.arch,
        "system": system,
        "wheels": [
            {"name": w.name, "version": w.version, "licence": w.licence, "file": w.path.name}
            for w in sorted(wheels, key=lambda w: w.name)
        ],
    }
    return json.dumps(said, indent=1) + "\n"


def _readme(opened: Bundle, board: Board, system: list[str]) -> str:
    needs = "".join(f"  {line}\n" for line in system) or "  nothing: it has none\n"
    if system:
        needs += (
            "Engines that were built on another device are loaded only with --trust-engines, or\n"
            "built again on this one; --backend ort-cpu needs none of them.\n"
        )
    name = opened.manifest.name
    return f"""edgevlm with the bundle {name}, for {board.arch} and Python {board.python}.

  sh install.sh [--system-site-packages] [VENV]

checks SHA256SUMS and makes an environment out of wheels/, without any network. It needs Python
{board.python}, sh, and sha256sum; not pip, not a compiler.

What the engines in the bundle need besides:
{needs}
bundle/            the model; its id is {opened.id}
wheels/            the programs; requirements.txt has their hashes
LICENSES/          of the programs; those of the model are in bundle/LICENSES
pack.json          all of it as JSON
"""
