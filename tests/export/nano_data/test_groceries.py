from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevlm.errors import ExportError
from edgevlm.export.nano_data import groceries as module
from edgevlm.export.nano_data.groceries import GROCERIES, grocery_assets, grocery_folder
from edgevlm.export.nano_data.renders import GL_PACKAGES, TableTops
from tests.conftest import missing

# A cube of 5 cm with a corner of the texture at every vertex.
CORNERS = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
FACES = ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files as robosuite has them, drawn here: cubes, all of one colour each."""
    (tmp_path / "objects" / "meshes").mkdir(parents=True)
    (tmp_path / "textures").mkdir()
    cube = "".join(f"v {0.025 * x} {0.025 * y} {0.025 * z}\n" for x, y, z in CORNERS)
    cube += "".join(f"vt {(x + 1) / 2} {(y + 1) / 2}\n" for x, y, _ in CORNERS)
    cube += "".join("f " + " ".join(f"{c}/{c}" for c in face.split()) + "\n" for face in FACES)
    for grocery in GROCERIES:
        (tmp_path / "objects" / "meshes" / grocery.mesh).write_text(cube, "ascii")
        Image.new("RGB", (700, 600), (30, 160, 40)).save(tmp_path / "textures" / grocery.texture)
    return tmp_path


def test_groceries_are_on_the_table_in_the_colour_of_their_texture(folder: Path):
    try:
        tops = TableTops(groceries=folder)
    except ExportError as error:
        missing(f"of Debian's packages {GL_PACKAGES} one is not installed: {error}")
    rng = np.random.default_rng(0)
    with tops:
        things = [(t, p.image_rgb) for p in (tops(rng) for _ in range(8)) for t in p.things]
    bought = [(t, image) for t, image in things if t.group == "groceries"]
    assert 4 <= len(bought) < len(things)
    assert {t.name for t, _ in bought} <= {g.name for g in GROCERIES}
    for thing, image in bought:
        red, green, blue = np.median(image[thing.mask], 0)
        assert green > 1.5 * max(red, blue)
        assert thing.colour in ("green", None)


def test_textures_are_made_small_and_missing_files_named(folder: Path):
    assets = grocery_assets(folder)
    assert set(assets) == {g.mesh for g in GROCERIES} | {g.texture for g in GROCERIES}
    assert assets["lemon.obj"].startswith(b"v ")
    (folder / "objects" / "meshes" / "lemon.obj").unlink()
    with pytest.raises(ExportError, match=r"lemon\.obj: pip install --no-deps robosuite"):
        grocery_assets(folder)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ExportError, match="pip install --no-deps robosuite"):
        grocery_folder()
    spec = ModuleSpec("robosuite", None, is_package=True)
    spec.submodule_search_locations = ["/somewhere/robosuite"]
    monkeypatch.setattr(module, "find_spec", lambda _: spec)
    assert grocery_folder() == Path("/somewhere/robosuite/models/assets")
