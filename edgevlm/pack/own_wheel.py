"""A wheel of the edgevlm that is running: built from its sources, or put together again."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import shutil
import tempfile
import zipfile
from pathlib import Path

from edgevlm.errors import PackError
from edgevlm.pack.pip import run_pip

_SOURCES = ("edgevlm", "export", "runtime", "pyproject.toml", "README.md", "LICENSE")
_EPOCH = (1980, 1, 1, 0, 0, 0)
# What an installer adds to the metadata that a wheel brings.
_LEFT_BY_PIP = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def own_wheel(folder: Path) -> Path:
    """Write the wheel into ``folder`` and return its path.

    From a checkout it is built with pip, in a copy, so that nothing is left in the sources. From
    an installation it is zipped again out of the files that were installed.

    Raises:
        PackError: the build failed, or the installation has no record of its files.
    """
    root = Path(__file__).resolve().parents[2]
    if all((root / name).exists() for name in _SOURCES):
        return _build(root, folder)
    return _zip_again(folder)


def _build(root: Path, folder: Path) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for name in _SOURCES:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, copy / name, symlinks=True, ignore=ignore)
            else:
                shutil.copy(source, copy / name)
        words = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
        # 1980, the earliest that a zip can say: the same sources make the same wheel.
        run_pip(words, "building edgevlm itself", {"SOURCE_DATE_EPOCH": "315532800"})
    (wheel,) = folder.glob("edgevlm-*.whl")
    return wheel


def _zip_again(folder: Path) -> Path:
    """The wheel format (PEP 427): the files, the metadata, and a RECORD of their hashes."""
    installed = importlib.metadata.distribution("edgevlm")
    files = {
        path.as_posix(): Path(str(path.locate()))
        for path in installed.files or ()
        if ".." not in path.parts and "__pycache__" not in path.parts
        and path.name not in _LEFT_BY_PIP
    }  # fmt: skip
    metadata = f"edgevlm-{installed.version}.dist-info"
    if f"{metadata}/METADATA" not in files:
        raise PackError(
            "this installation of edgevlm has no record of its files; install it from a wheel or "
            "run pack from a checkout"
        )
    record = []
    target = folder / f"edgevlm-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, path in sorted(files.items()):
            data = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}\n")
            _add(wheel, name, data)
        name = f"{metadata}/RECORD"
        _add(wheel, name, "".join([*record, f"{name},,\n"]).encode())
    return target


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    wheel.writestr(info, data)
