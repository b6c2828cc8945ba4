"""Groceries for rendered tables: six textured meshes of robosuite, MIT, where pip put them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

from edgevlm.errors import ExportError

PACKAGE = "robosuite==1.5.2"
_TEXTURE_PX = 512  # the package's are larger, and slow to load


@dataclass(frozen=True, slots=True)
class Grocery:
    """One mesh with its texture.

    Args:
        name: of the thing.
        mesh: OBJ file below ``objects/meshes``, in metres.
        texture: PNG file below ``textures``.
        repeat: of the texture along its two axes.
        uniform: whether it repeats by metre and not by mesh.
        scale: of the mesh along its three axes.
        bottom_m: how far it reaches below its origin.
        radius_m: of the circle around it on the table.
    """

    name: str
    mesh: str
    texture: str
    repeat: str
    uniform: bool
    scale: str
    bottom_m: float
    radius_m: float


GROCERIES = (
    Grocery("bread", "bread.obj", "bread.png", "15 15", True, "1.2 1.2 1.2", 0.035, 0.047),
    Grocery("can", "can.obj", "soda.png", "5 5", True, "1 1 1", 0.0403, 0.026),
    Grocery("cereal box", "cereal.obj", "cereal.png", "1 1", False, "1 1 1", 0.075, 0.053),
    Grocery("lemon", "lemon.obj", "lemon.png", "60 50", True, "1.5 1 1", 0.0199, 0.035),
    Grocery("milk carton", "milk.obj", "ceramic.png", "1 1", True, "0.9 0.9 0.9", 0.061, 0.029),
    Grocery("bottle", "bottle.obj", "glass.png", "5 5", True, "1 1 1", 0.0649, 0.03),
)
BY_NAME = {grocery.name: grocery for grocery in GROCERIES}


def grocery_folder() -> Path:
    """Where robosuite keeps meshes and textures; the package itself is never imported.

    Raises:
        ExportError: it is not installed.
    """
    spec = find_spec("robosuite")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ExportError(
            f"groceries on rendered tables are robosuite's: pip install --no-deps {PACKAGE}"
        )
    return Path(folders[0]) / "models" / "assets"


def grocery_assets(folder: Path) -> dict[str, bytes]:
    """Meshes and textures by the names that ``GROCERIES`` have for them.

    Args:
        folder: as ``grocery_folder`` gives it.

    Raises:
        ExportError: a file is missing.
    """
    assets = {}
    for grocery in GROCERIES:
        mesh, texture = (
            folder / "objects/meshes" / grocery.mesh,
            folder / "textures" / grocery.texture,
        )
        for file in (mesh, texture):
            if not file.is_file():
                raise ExportError(f"no {file}: pip install --no-deps {PACKAGE}")
        assets[grocery.mesh] = mesh.read_bytes()
        with Image.open(texture) as opened:
            image = opened.convert("RGB")
        image.thumbnail((_TEXTURE_PX, _TEXTURE_PX))
        png = BytesIO()
        image.save(png, "PNG")
        assets[grocery.texture] = png.getvalue()
    return assets
