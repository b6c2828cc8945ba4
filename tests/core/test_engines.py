"""Engines in a bundle: what they are bound to, and when one is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevlm.bundle import Bundle, Manifest, open_bundle
from edgevlm.bundle.build_record import (
    built_here,
    check_engines,
    find_engine,
    record_built,
    record_path,
)
from edgevlm.bundle.engines import Platform, ShapeRange, target_folder
from edgevlm.cuda_driver import cuda_device
from edgevlm.errors import (
    BackendUnavailable,
    BundleCorrupt,
    BundleError,
    EngineMismatch,
    EngineUntrusted,
)
from tests.core.engines import CODE, FILE, ORIN, TARGET, add_engine, key

pytestmark = pytest.mark.usefixtures("cache")
DIGEST = hashlib.sha256(CODE).hexdigest()


def test_an_engine_does_not_change_the_id_of_its_bundle(copied: Path, tiny: Bundle):
    with_engine = add_engine(copied)
    assert with_engine.id == tiny.id
    assert with_engine.manifest != tiny.manifest
    assert FILE in with_engine.manifest.files


def test_everything_else_in_the_manifest_changes_the_id(tiny: Bundle):
    raw = tiny.manifest.model_dump(mode="json")
    for change in ({"name": "other"}, {"licenses": ["none"]}):
        assert Manifest.model_validate(raw | change).bundle_id != tiny.id


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bundle": "b" * 64}, ("bundle",)),
        ({"graph": "b" * 64}, ("graph",)),
        ({"lowering": "onnx-std"}, ("lowering",)),
        ({"precision": "int8"}, ("precision",)),
        ({"profiles": ()}, ("profiles",)),
        ({"flags": {"level": "5"}}, ("flags",)),
        ({"platform": ORIN.model_copy(update={"version": "10.16.2"})}, ("version",)),
        ({"platform": ORIN.model_copy(update={"sm": "86", "device": "A2"})}, ("sm", "device")),
        ({"platform": ORIN.model_copy(update={"cuda": "13.2"})}, ("cuda",)),
        ({}, ()),
    ],
)  # fmt: skip
def test_keys_name_the_fields_in_which_they_differ(change: dict[str, Any], named: tuple[str, ...]):
    made = key("a" * 64)
    assert made.differs(made.model_copy(update=change)) == named


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"library": "tensorrt-rtx"}, "library is tensorrt, here tensorrt-rtx"),
        ({"version": "10.16.2"}, "version is 10.3.0, here 10.16.2"),
        ({"cuda": "13.2"}, "cuda is 12.6, here 13.2"),
        ({"sm": "110"}, "sm is 87, here 110"),
        ({"device": "Orin Nano"}, "device is Orin, here Orin Nano"),
    ],
)
def test_an_engine_of_another_machine_is_refused_and_the_field_named(
    copied: Path, change: dict[str, str], reason: str
):
    bundle = add_engine(copied)
    here = Platform(**(ORIN.model_dump() | change))
    with pytest.raises(EngineMismatch, match=f"{reason}; build it again with: edgevlm build"):
        find_engine(bundle, TARGET, "decoder", here, trust=True)


def test_an_engine_made_ahead_of_time_fits_any_device_of_its_kind(copied: Path):
    rtx = Platform(library="tensorrt-rtx", version="1.7.1", cuda="13", sm="86")
    bundle = add_engine(copied, rtx)
    here = rtx.model_copy(update={"device": "RTX 3060", "cuda": "13.1"})
    path, entry = find_engine(bundle, TARGET, "decoder", here, trust=True)
    assert (path, entry.aliases) == (copied / FILE, {"present.0.key": "past_key_values.0.key"})


def test_an_engine_of_another_bundle_is_refused(copied: Path):
    add_engine(copied)
    raw = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(raw | {"name": "changed"}))
    with pytest.raises(EngineMismatch, match=r"bundle is .{12}, here .{12}"):
        find_engine(open_bundle(copied), TARGET, "decoder", ORIN, trust=True)


def test_only_what_this_device_made_is_loaded_unasked(copied: Path):
    bundle = add_engine(copied)
    with pytest.raises(EngineUntrusted, match=r"edgevlm build .* or load it with --trust-engines"):
        find_engine(bundle, TARGET, "decoder", ORIN)
    assert find_engine(bundle, TARGET, "decoder", ORIN, trust=True)[0] == copied / FILE
    record_built({DIGEST: "tiny"})
    assert find_engine(bundle, TARGET, "decoder", ORIN)[0] == copied / FILE


def test_a_bundle_without_the_engine_says_which_it_has(copied: Path, tiny: Bundle):
    with pytest.raises(BackendUnavailable, match=r"no engine of decoder for trt \(engines for: no"):
        find_engine(tiny, TARGET, "decoder", ORIN)
    bundle = add_engine(copied)
    with pytest.raises(BackendUnavailable, match=r"no engine of vision for trt .*: trt\)"):
        find_engine(bundle, TARGET, "vision", ORIN)


def truncate(path: Path) -> None:
    path.write_bytes(CODE[:-1])


def alter(path: Path) -> None:
    path.write_bytes(CODE[:-1] + b"!")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(Path.unlink, "is missing"), (truncate, "has 11 bytes, the manifest says 12"),
     (alter, "has sha256 .{12}..., the manifest says .{12}...")],
)  # fmt: skip
def test_a_damaged_engine_is_not_loaded_and_keeps_nobody_else_from_the_bundle(
    copied: Path, damage: Callable[[Path], None], said: str
):
    bundle = add_engine(copied)
    record_built({DIGEST: "tiny"})
    assert check_engines(bundle) == 1
    damage(copied / FILE)
    assert open_bundle(copied, "always").manifest == bundle.manifest
    again = f"{FILE} {said}; build it again with: edgevlm build .* --target trt --force"
    with pytest.raises(EngineMismatch, match=again):
        find_engine(bundle, TARGET, "decoder", ORIN, trust=True)
    with pytest.raises(BundleCorrupt, match=again):
        check_engines(bundle)


def test_files_that_a_killed_build_left_are_never_used(copied: Path):
    bundle = add_engine(copied)
    (copied / "engines" / "trt" / "decoder-1.engine").write_bytes(b"half")
    assert open_bundle(copied, "always").manifest == bundle.manifest


@pytest.mark.parametrize(
    "place",
    ["decoder.engine", "engines/decoder.engine", "engines/trt/../decoder.engine", "engines/trt/d"],
)
def test_an_engine_elsewhere_is_refused(copied: Path, place: str):
    add_engine(copied)
    raw = json.loads((copied / "manifest.json").read_text())
    raw["engines"][TARGET]["graphs"]["decoder"]["file"] = place
    (copied / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleCorrupt, match="is no place for an engine of trt"):
        open_bundle(copied)


def test_unknown_targets_and_loose_aliases_are_refused(copied: Path):
    add_engine(copied)
    path = copied / "manifest.json"
    raw = json.loads(path.read_text())
    other = json.loads(path.read_text())
    other["engines"]["cuda"] = other["engines"].pop(TARGET)
    path.write_text(json.dumps(other))
    with pytest.raises(BundleCorrupt, match=r"engines\.cuda"):
        open_bundle(copied)
    raw["engines"][TARGET]["graphs"]["decoder"]["aliases"] = {"present.0.key": "nothing"}
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleCorrupt, match="that the engine lacks: \\['nothing'\\]"):
        open_bundle(copied)


def test_the_record_outlives_the_process_and_survives_damage(cache: Path):
    record_built({"a" * 64: "one"})
    record_built({"b" * 64: "two"})
    assert built_here() == {"a" * 64: "one", "b" * 64: "two"}
    for damage in ("", "[]", '{"a": 1}', "[" * 100_000):
        record_path().write_text(damage)
        assert built_here() == {}
    shutil.rmtree(cache)
    cache.write_text("a file where the folder should be")
    with pytest.raises(BundleError, match=r"build record .* cannot be written"):
        record_built({"a" * 64: "one"})


def test_a_range_of_shapes_is_ordered():
    with pytest.raises(ValueError, match="min <= opt <= max"):
        ShapeRange(min=(2,), opt=(1,), max=(3,))
    with pytest.raises(ValueError, match="unequal ranks"):
        ShapeRange(min=(2, 1), opt=(1,), max=(3,))


def test_a_targets_folder_has_no_colon():
    assert target_folder("trt-rtx:sm86") == "engines/trt-rtx-sm86"


def test_a_machine_without_a_driver_is_told_what_to_do():
    with pytest.raises(BackendUnavailable, match=r"no NVIDIA driver .*nvidia-smi must list"):
        cuda_device(library="libcuda-that-is-not-here.so.1")


@pytest.mark.gpu
def test_the_driver_names_its_device():
    found = cuda_device()
    assert found.name
    assert int(found.sm) >= 50
    assert found.memory_bytes > 1 << 30
