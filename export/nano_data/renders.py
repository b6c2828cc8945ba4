"""Table-top scenes rendered by MuJoCo, with exact masks from its segmentation."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgevlm.colour import colour_name
from edgevlm.errors import ContractError, ExportError
from edgevlm.export.nano_data.backgrounds import SMALLEST
from edgevlm.export.nano_data.camera import photographed
from edgevlm.export.nano_data.composition import box_of
from edgevlm.export.nano_data.groceries import BY_NAME
from edgevlm.export.nano_data.names import also_called
from edgevlm.export.nano_data.picture import SEEN_AT_LEAST, Picture, SeenThing
from edgevlm.export.nano_data.table_layout import Solid, layout, paint
from edgevlm.export.nano_data.table_model import TEXTURES, table_model
from edgevlm.frame import UInt8

GL_PACKAGES = "libegl1 libgles2 libgl1-mesa-dri"
_CAMERAS = 12  # views that are tried before a thing is taken away
_PIXELS = 150  # of a thing, at least


class TableTops:
    """Renders table tops; one OpenGL context serves all of them.

    Args:
        side: of the square pictures, pixels, at least 224.
        seed: of the textures of tables and floors.
        groceries: the folder of their meshes (``groceries.grocery_folder``): half of the things
            are then such; with None all are solids.

    Raises:
        ExportError: MuJoCo, a library of OpenGL or a mesh is not installed.
    """

    def __init__(self, side: int = 224, seed: int = 0, groceries: Path | None = None) -> None:
        if side < SMALLEST:
            raise ContractError(f"pictures have a side of at least {SMALLEST} pixels, got {side}")
        self._mujoco = _imported()
        description = table_model(np.random.default_rng(seed), side, groceries)
        self._groceries = groceries is not None
        model = self._mujoco.MjModel.from_xml_string(description.xml, description.assets)
        self._model, self._data = model, self._mujoco.MjData(model)
        try:
            self._renderer = self._mujoco.Renderer(model, side, side)
        except Exception as error:  # whatever the binding of OpenGL raises
            raise ExportError(
                f"MuJoCo cannot render here ({error}): apt-get install {GL_PACKAGES}"
            ) from error
        self._at_rest = self._data.mocap_pos.copy()

    def __enter__(self) -> TableTops:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the context back."""
        self._renderer.close()

    def __call__(self, rng: np.random.Generator) -> Picture:
        """One picture of one table."""
        return self.views(rng, 1)[0]

    def views(self, rng: np.random.Generator, count: int) -> list[Picture]:
        """Pictures of one table from different sides, in different light; one ``scene``.

        Args:
            rng: chooses everything.
            count: of pictures.
        """
        solids, ground = layout(rng, self._groceries), int(rng.integers(TEXTURES))
        found: list[Picture] = []
        while len(found) < count:
            geoms = self._furnish(solids, ground, rng)
            for _ in range(_CAMERAS):
                camera = self._camera(rng)
                masks = self._masks(camera, geoms)
                if masks is not None:
                    found.append(self._picture(solids, ground, camera, masks, rng))
                    break
            else:  # too crowded for any view
                solids, found = solids[:-1] or layout(rng, self._groceries), []
        return found

    def _furnish(
        self, solids: tuple[Solid, ...], ground: int, rng: np.random.Generator
    ) -> list[int]:
        """Put the solids and the light in place; the geom of each solid."""
        mj, model, data = self._mujoco, self._model, self._data
        data.mocap_pos[:] = self._at_rest
        geoms = []
        for number, solid in enumerate(solids):
            primitive = solid.kind in _TYPES
            name = "primitive" if primitive else solid.kind
            if not primitive and solid.kind not in BY_NAME:
                name += f" {solid.size_m[0]}"
            body = model.body(f"{name} {number}").id
            geom = int(model.body_geomadr[body])
            if primitive:
                model.geom_type[geom] = getattr(mj.mjtGeom, _TYPES[solid.kind])
                model.geom_size[geom] = solid.size_m
            data.mocap_pos[model.body_mocapid[body]] = solid.centre_m
            data.mocap_quat[model.body_mocapid[body]] = solid.quaternion
            model.geom_rgba[geom] = paint(solid)
            geoms.append(geom)
        model.geom_matid[model.geom("table").id] = model.material(f"ground {ground}").id
        floor = model.material(f"ground {int(rng.integers(TEXTURES))}").id
        model.geom_matid[model.geom("floor").id] = floor
        wall = [*rng.uniform(0.35, 0.95, 3), 1]
        for number in range(4):
            model.geom_rgba[model.geom(f"wall {number}").id] = wall
        lamp, window = model.light("lamp").id, model.light("window").id
        model.light_pos[lamp] = rng.uniform((-0.7, -0.7, 0.9), (0.7, 0.7, 1.6))
        model.light_dir[lamp] = -model.light_pos[lamp] / np.linalg.norm(model.light_pos[lamp])
        model.light_diffuse[lamp] = rng.uniform(0.35, 0.7) * rng.uniform(0.92, 1, 3)
        model.light_dir[window] = rng.uniform((-1, -1, -1), (1, 1, -0.5))
        model.light_diffuse[window] = rng.uniform(0.05, 0.35) * rng.uniform(0.92, 1, 3)
        model.vis.headlight.ambient[:] = rng.uniform(0.15, 0.4)
        model.vis.headlight.diffuse[:] = rng.uniform(0.1, 0.35)
        mj.mj_forward(model, data)
        return geoms

    def _camera(self, rng: np.random.Generator) -> Any:
        camera = self._mujoco.MjvCamera()
        camera.azimuth = rng.uniform(0, 360)
        camera.elevation = -rng.uniform(22, 68)
        camera.distance = rng.uniform(0.5, 0.95)
        camera.lookat[:] = rng.uniform((-0.06, -0.06, -0.01), (0.06, 0.06, 0.05))
        return camera

    def _masks(self, camera: Any, geoms: list[int]) -> list[NDArray[np.bool_]] | None:
        """Of each solid; None if one is cut off, mostly hidden or tiny."""
        seen = self._segmented(camera)
        masks = [seen == geom for geom in geoms]
        for mask in masks:
            area = int(mask.sum())
            rim = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
            if area < _PIXELS or rim:
                return None
        if len(geoms) == 1:
            return masks
        rgba = self._model.geom_rgba[geoms].copy()
        for place, geom in enumerate(geoms):
            self._model.geom_rgba[geoms, 3] = 0  # what is fully transparent is not drawn
            self._model.geom_rgba[geom, 3] = 1
            whole = int((self._segmented(camera) == geom).sum())
            self._model.geom_rgba[geoms] = rgba
            if masks[place].sum() < SEEN_AT_LEAST * whole:
                return None
        return masks

    def _segmented(self, camera: Any) -> NDArray[np.int32]:
        """The number of the geom in each pixel, -1 for none."""
        self._renderer.enable_segmentation_rendering()
        self._renderer.update_scene(self._data, camera)
        pair = self._renderer.render()
        self._renderer.disable_segmentation_rendering()
        is_geom = pair[..., 1] == int(self._mujoco.mjtObj.mjOBJ_GEOM)
        return np.where(is_geom, pair[..., 0], -1).astype(np.int32)

    def _picture(
        self,
        solids: tuple[Solid, ...],
        ground: int,
        camera: Any,
        masks: list[NDArray[np.bool_]],
        rng: np.random.Generator,
    ) -> Picture:
        self._renderer.update_scene(self._data, camera)
        image: UInt8 = np.array(self._renderer.render(), np.uint8)
        things = []
        for solid, mask in zip(solids, masks, strict=True):
            box = box_of(mask)
            assert box is not None
            measured = colour_name(image, mask)
            things.append(
                SeenThing(
                    name=solid.kind,
                    also=also_called(solid.kind),
                    group="groceries" if solid.kind in BY_NAME else "shapes",
                    # Light may change the colour of paint; a texture has that which it shows.
                    colour=measured if solid.colour in (None, measured) else None,
                    box_xyxy=box,
                    mask=mask,
                )
            )
        names = sorted(f"{solid.colour or 'own'} {solid.kind}" for solid in solids)
        return Picture(
            image_rgb=photographed(image, rng),
            family="renders",
            scene=f"table {ground}: {', '.join(names)}",
            things=tuple(things),
        )


_TYPES = {
    "cube": "mjGEOM_BOX", "box": "mjGEOM_BOX", "ball": "mjGEOM_SPHERE",
    "cylinder": "mjGEOM_CYLINDER", "capsule": "mjGEOM_CAPSULE",
}  # fmt: skip


def _imported() -> Any:
    """MuJoCo with EGL, which needs no screen, unless the environment says otherwise."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except (ImportError, AttributeError, OSError, RuntimeError) as error:  # of OpenGL's binding too
        raise ExportError(
            f"table tops are rendered by MuJoCo, which does not start ({error}): "
            f"pip install 'edgevlm[data]', apt-get install {GL_PACKAGES}, MUJOCO_GL=egl"
        ) from error
    return mujoco
