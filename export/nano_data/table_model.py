"""A table in a room, as MuJoCo describes it, with solids that wait to be put on it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from edgevlm.export.nano_data.backgrounds import table_scene, textured
from edgevlm.export.nano_data.groceries import GROCERIES, Grocery, grocery_assets

TABLE_M = 0.34  # half the side of the table
SLOTS = 5  # solids of each kind that can be on the table at once
TEXTURES = 12
MESH_M = (0.034, 0.042, 0.05)  # radii in which solids that are meshes come
_CORNERS = {"cone": 32, "pyramid": 4}  # of the base


@dataclass(frozen=True, slots=True)
class Description:
    """What MuJoCo compiles.

    Args:
        xml: MJCF.
        assets: file contents by name.
    """

    xml: str
    assets: dict[str, bytes]


def table_model(rng: np.random.Generator, side: int, groceries: Path | None = None) -> Description:
    """The room, the table, ``SLOTS`` primitives and meshes out of sight below the floor.

    Bodies are named ``primitive 0`` ..., ``cone 0.034 0`` ..., ``lemon 0`` ...; materials
    ``ground 0`` ...

    Args:
        rng: makes the textures.
        side: of pictures, pixels.
        groceries: the folder with their meshes and textures; None for none.

    Raises:
        ExportError: one of those files is missing.
    """
    textures, materials, assets = [], [], {}
    for number in range(TEXTURES):
        name = f"ground{number}.png"
        assets[name] = _png(rng)
        textures.append(f'<texture name="ground {number}" type="2d" file="{name}"/>')
        materials.append(
            f'<material name="ground {number}" texture="ground {number}" texrepeat="1 1"/>'
        )
    meshes = [_mesh(kind, radius) for kind in _CORNERS for radius in MESH_M]
    bodies = [_body(f"primitive {n}", '<geom type="sphere" size=".03"/>') for n in range(SLOTS)]
    for kind in _CORNERS:
        for radius in MESH_M:
            geom = f'<geom type="mesh" mesh="{kind} {radius}"/>'
            bodies += [_body(f"{kind} {radius} {n}", geom) for n in range(SLOTS)]
    if groceries is not None:
        assets |= grocery_assets(groceries)
        for grocery in GROCERIES:
            textures.append(f'<texture name="{grocery.name}" type="2d" file="{grocery.texture}"/>')
            materials.append(_material(grocery))
            meshes.append(
                f'<mesh name="{grocery.name}" file="{grocery.mesh}" scale="{grocery.scale}"/>'
            )
            geom = f'<geom type="mesh" mesh="{grocery.name}" material="{grocery.name}"/>'
            bodies += [_body(f"{grocery.name} {n}", geom) for n in range(SLOTS)]
    walls = [
        f'<geom name="wall {n}" type="plane" size="3 3 .1" pos="{x} {y} 0" zaxis="{-x} {-y} 0"/>'
        for n, (x, y) in enumerate(((2, 0), (-2, 0), (0, 2), (0, -2)))
    ]
    size = f"{TABLE_M} {TABLE_M} 0.02"
    newline = "\n"
    xml = f"""<mujoco>
<visual>
  <global offwidth="{side}" offheight="{side}" fovy="42"/>
  <quality shadowsize="1024" offsamples="4"/>
  <map znear="0.02" zfar="20"/>
</visual>
<asset>
{newline.join(textures + materials + meshes)}
</asset>
<worldbody>
<light name="lamp" pos="0 0 2" dir="0 0 -1" castshadow="true" cutoff="80"/>
<light name="window" pos="1 1 2" dir="-1 -1 -2" castshadow="false" directional="true"/>
<geom name="floor" type="plane" size="3 3 .1" pos="0 0 -0.6" material="ground 0"/>
<geom name="table" type="box" size="{size}" pos="0 0 -0.02" material="ground 0"/>
{newline.join(walls + bodies)}
</worldbody>
</mujoco>"""
    return Description(xml, assets)


def _body(name: str, geom: str) -> str:
    return f'<body name="{name}" mocap="true" pos="0 0 -2">{geom}</body>'


def _material(grocery: Grocery) -> str:
    uniform = "true" if grocery.uniform else "false"
    return (
        f'<material name="{grocery.name}" texture="{grocery.name}" '
        f'texrepeat="{grocery.repeat}" texuniform="{uniform}"/>'
    )


def _mesh(kind: str, radius: float) -> str:
    """A point above a regular base; MuJoCo takes the convex hull of the vertices."""
    height = 2.1 * radius if kind == "cone" else 1.5 * radius
    angles = 2 * np.pi * np.arange(_CORNERS[kind]) / _CORNERS[kind]
    points = [(radius * np.cos(a), radius * np.sin(a), 0.0) for a in angles]
    vertices = " ".join(f"{x:.5f} {y:.5f} {z:.5f}" for x, y, z in [*points, (0, 0, height)])
    return f'<mesh name="{kind} {radius}" vertex="{vertices}"/>'


def _png(rng: np.random.Generator) -> bytes:
    """A texture in muted colours: blotches, or the grain of a table without its wall."""
    if rng.random() < 0.5:
        picture = textured((256, 256), rng)
    else:
        picture = table_scene((256, 512), rng)[256:]
    grey = picture.mean(2, keepdims=True)
    picture = np.rint(grey + 0.55 * (picture - grey)).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
