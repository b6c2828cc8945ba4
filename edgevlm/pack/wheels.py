"""The wheels of an archive: edgevlm's own and all that it needs on the board."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from edgevlm.bundle.files import sha256_file
from edgevlm.errors import PackError
from edgevlm.pack.board import Board
from edgevlm.pack.own_wheel import own_wheel
from edgevlm.pack.pip import run_pip
from edgevlm.pack.resolve import Pinned, resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel on disk.

    Args:
        path: the file.
        name: canonical name of the distribution.
        version: its version.
        licence: as its metadata says.
        sha256: of the file.
    """

    path: Path
    name: str
    version: str
    licence: str
    sha256: str

    def licence_files(self) -> dict[str, bytes]:
        """The texts of its licences, by file name."""
        with zipfile.ZipFile(self.path) as archive:
            return {
                name.rpartition("/")[2]: archive.read(name)
                for name in sorted(archive.namelist())
                if ".dist-info/" in name and _is_licence(name)
            }


def _is_licence(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    start = file.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS"))
    return bool(file) and (start or folder.endswith("/licenses"))


def gather(folder: Path, board: Board) -> list[Wheel]:
    """Fill ``folder`` with wheels for ``board``: edgevlm, an engine for the CPU, and pip.

    A Jetson gets what `edgevlm build` and the backend ``trt`` need besides JetPack's TensorRT:
    onnx, and cuda-bindings of the CUDA that it has.

    Raises:
        PackError: no wheel for this board of a package that is named, an index out of reach, or a
            file that is not what the index said.
    """
    cuda = board.jetson_cuda
    extras = ("cpu", "trt-rtx") if cuda else ("cpu",)
    own = own_wheel(folder)
    version, requires = _metadata(own)
    needs = [
        str(_bare(requirement))
        for requirement in map(Requirement, requires)
        if requirement.marker is None
        or any(requirement.marker.evaluate({**board.environment, "extra": e})
               for e in ("", *extras))
    ]  # fmt: skip
    if cuda:
        needs.append(f"cuda-bindings>={cuda},<{cuda + 1}")
    pinned = resolve([*needs, "pip"], board)
    _download(folder, pinned, board)
    made = [Wheel(path=own, name="edgevlm", version=version, licence="Apache-2.0",
                  sha256=sha256_file(own))]  # fmt: skip
    paths = {_identity(path): path for path in folder.glob("*.whl")}
    for item in pinned:
        path = paths.get((item.name, item.version))
        if path is None:
            raise PackError(f"pip did not fetch {item.name} {item.version}")
        _check_tags(path, board)
        digest = sha256_file(path)
        if item.sha256 and digest != item.sha256:
            raise PackError(f"{path.name} is not what the index said: its sha256 is {digest}")
        made.append(Wheel(path=path, name=item.name, version=item.version, licence=item.licence,
                          sha256=digest))  # fmt: skip
    return made


def _metadata(wheel: Path) -> tuple[str, list[str]]:
    """Version and ``Requires-Dist`` lines."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        fields = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return fields["Version"], fields.get_all("Requires-Dist") or []


def _bare(requirement: Requirement) -> Requirement:
    requirement.marker = None
    return requirement


def _download(folder: Path, pinned: list[Pinned], board: Board) -> None:
    names = [f"{item.name}=={item.version}" for item in pinned]
    run_pip(
        ["download", "--quiet", "--no-deps", "--dest", str(folder), *board.pip_options, *names],
        f"{board.arch}, Python {board.python}",
    )


def _identity(path: Path) -> tuple[str, str]:
    name, version, _, _ = parse_wheel_filename(path.name)
    return canonicalize_name(name), str(version)


def _check_tags(path: Path, board: Board) -> None:
    _, _, _, tags = parse_wheel_filename(path.name)
    if not tags & board.tags:
        raise PackError(f"{path.name} is no wheel for {board.arch}, Python {board.python}")
