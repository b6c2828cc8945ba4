"""What the doctor says of boards whose files were laid out here, and of this machine.

The trees follow documented layouts (``trees.py`` says which). Nothing here was recorded on
hardware: that the probes read them right does not prove that a board has them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgevlm.runtime.device.doctor import Finding, Python, examine
from edgevlm.runtime.device.doctor.installed import library_version, package_version
from tests.runtime.doctor.trees import (
    ARM,
    Files,
    lay,
    meminfo,
    orin_nano,
    orin_nx,
    pc,
    thor,
    wheels,
)

Found = dict[str, Finding]


def by_subject(findings: list[Finding]) -> Found:
    found = {f.what: f for f in findings}
    assert len(found) == len(findings), "a subject is spoken of once"
    assert all(f.remedy for f in findings if f.verdict != "ok")
    assert not any(f.remedy for f in findings if f.verdict == "ok")
    return found


@pytest.fixture
def nano_board(tmp_path: Path) -> Found:
    return by_subject(examine(*orin_nano(tmp_path)))


def test_orin_nano_is_told_apart_with_its_versions(nano_board: Found):
    assert nano_board["jetpack"].verdict == "ok"
    assert "Orin Nano" in nano_board["jetpack"].found
    assert nano_board["jetpack"].found.endswith("L4T 36.4.3, JetPack 6.2")
    assert nano_board["gpu"].found == "NVIDIA Orin (sm_87), driver of L4T 36.4.3; /dev/nvhost-gpu"
    versions = {what: nano_board[what].found for what in ("cuda", "cudnn", "tensorrt")}
    assert versions == {"cuda": "12.6.68", "cudnn": "9.3.0.75", "tensorrt": "10.3.0.30"}
    assert "6 cores, asimddp" in nano_board["cpu"].found


def test_a_wheel_without_code_for_orin_is_refused_before_its_first_kernel(nano_board: Found):
    finding = nano_board["ort-cuda"]
    assert (finding.verdict, finding.needed) == ("fail", False)
    assert finding.found == (
        "no code for this GPU (sm_87): it has sm_89 sm_90 sm_120 sm_121"
    )  # what export.md 5.3 found in that wheel
    assert nano_board["ort-trt"].verdict == "fail"
    assert "without the TensorRT provider" in nano_board["ort-trt"].found


def test_a_closed_environment_does_not_see_the_systems_tensorrt(nano_board: Found):
    finding = nano_board["tensorrt-python"]
    assert finding.verdict == "warn"
    assert "/home/ubuntu/.venv does not see" in finding.found
    assert "--system-site-packages" in finding.remedy


def test_what_slows_an_orin_nano_down_is_named_with_its_command(nano_board: Found):
    mode = nano_board["power-mode"]
    assert mode.found == "15W (mode 0 of 0 15W, 1 25W, 2 MAXN_SUPER, 3 7W)"
    assert "nvpmodel -m 2" in mode.remedy
    assert nano_board["power-supply"].found == "since boot: 27 instantaneous over-current"
    assert nano_board["gpu-clock"].found == "306 of 612 MHz, governor nvhost_podgov"
    assert nano_board["heat"].found == "cpu-thermal at 64 C"  # the fan at work is no throttling
    assert nano_board["heat"].verdict == "ok"


def test_what_an_engine_build_on_8_gb_will_miss(nano_board: Found):
    assert nano_board["memory"].verdict == "ok"
    assert nano_board["cma"].found == "190 MB free of 268 MB contiguous"
    assert "cma=950M" in nano_board["cma"].remedy
    assert "1 zram devices, on disk none" in nano_board["swap"].found
    assert "multi-user.target" in nano_board["desktop"].remedy


def test_cameras_decoder_and_groups_of_an_orin_nano(nano_board: Found):
    assert nano_board["cameras"].found == "/dev/video0 vi-output, imx219 9-0010"
    assert nano_board["csi"].found == "not here: gi (in this Python)"
    assert "--system-site-packages" in nano_board["csi"].remedy
    assert nano_board["video-hardware"].found == (
        "/dev/v4l2-nvdec; GStreamer has nvv4l2decoder, nvvidconv, nvarguscamerasrc"
    )
    assert nano_board["groups"].found == "not in render"
    assert "usermod -aG render" in nano_board["groups"].remedy


def test_a_csi_camera_with_all_it_needs(tmp_path: Path):
    tree, python = orin_nano(tmp_path)
    lay(tmp_path, {"/usr/lib/python3/dist-packages/gi/__init__.py": ""})
    open_one = replace(python, path=(*python.path, "/usr/lib/python3/dist-packages"))
    assert by_subject(examine(tree, open_one))["csi"].verdict == "ok"


def test_an_orin_nx_that_is_set_up_as_the_guide_says_has_nothing_to_mend(tmp_path: Path):
    found = by_subject(examine(*orin_nx(tmp_path)))
    assert {f.what: f.found for f in found.values() if f.verdict != "ok"} == {}
    assert found["jetpack"].found.endswith("L4T 39.2.0, JetPack 7.2")
    assert found["gpu"].found == "NVIDIA Orin (sm_87), driver 595.78; /dev/nvhost-gpu"
    versions = {what: found[what].found for what in ("cuda", "cudnn", "tensorrt")}
    assert versions == {"cuda": "13.2.1", "cudnn": "9.20.0.46", "tensorrt": "10.16.2.10"}
    assert found["tensorrt-python"].found == "on the path of Python 3.12"
    assert found["cameras"].found == "/dev/video0 HD Pro Webcam C920"  # its metadata node is none
    assert "csi" not in found


def test_thor_with_the_registrys_wheels(tmp_path: Path):
    found = by_subject(examine(*thor(tmp_path)))
    assert found["jetpack"].found.endswith("L4T 38.2.2, JetPack 7.0")
    assert found["gpu"].found == "NVIDIA Thor (sm_110), driver 580.00; /dev/nvidiactl"
    assert "no code for this GPU (sm_110)" in found["ort-cuda"].found
    assert (found["tensorrt"].verdict, found["tensorrt"].found) == (
        "fail",
        "11.4.0.106, not made for JetPack",
    )
    assert found["tensorrt-rtx"].verdict == "fail"
    assert found["cudnn"].found == "9.12.0"
    assert found["cuda-bindings"].found == "12.9.4, and CUDA is 13.0.0"
    assert found["cuda-bindings"].remedy == "pip install 'cuda-bindings==13.*'"
    assert found["heat"].found == "tj-thermal at 100 C, slowed down by gpu-gpc-0"
    assert "nvpmodel -m 0" in found["power-mode"].remedy
    assert "cma" not in found
    assert not any(f.needed for f in found.values())


def test_a_pc_with_an_rtx_card(tmp_path: Path):
    found = by_subject(examine(*pc(tmp_path)))
    assert {f.what for f in found.values() if f.verdict != "ok"} == {"cameras"}
    assert found["gpu"].found == (
        "NVIDIA GeForce RTX 4090 (sm_89), driver 550.54.14; /dev/nvidiactl"
    )
    assert found["ort-cuda"].found.endswith("this GPU is sm_89")
    assert found["ort-trt"].found == "linked with libnvinfer.so.10"
    assert found["tensorrt"].found == "10.13.0.35"
    assert found["video-hardware"].found == "NVDEC (libnvcuvid); GStreamer has none"
    assert "jetpack" not in found


@pytest.mark.parametrize(
    ("card", "sm"),
    [
        ("NVIDIA GeForce RTX 5090", 120),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 120),
        ("NVIDIA RTX 6000 Ada Generation", 89),
        ("NVIDIA L4", 89),
        ("NVIDIA L40S", 89),
        ("NVIDIA GeForce RTX 3050 Laptop GPU", 86),
        ("NVIDIA RTX A2000 12GB", 86),
        ("NVIDIA A10", 86),
        ("NVIDIA A100-SXM4-80GB", 80),
        ("NVIDIA H100 80GB HBM3", 90),
        ("Tesla T4", 75),
        ("NVIDIA GeForce RTX 2060", 75),
        ("NVIDIA GB10", 121),
    ],
)
def test_a_card_is_known_by_its_name(tmp_path: Path, card: str, sm: int):
    assert f"(sm_{sm})" in by_subject(examine(*pc(tmp_path, card)))["gpu"].found


def test_a_card_that_is_not_known_is_said_to_be_unknown(tmp_path: Path):
    found = by_subject(examine(*pc(tmp_path, "NVIDIA Vera Rubin 9000")))
    assert found["gpu"].verdict == "ok"
    assert "compute capability unknown" in found["gpu"].found
    assert found["ort-cuda"].verdict == "unknown"


# Single faults, on otherwise healthy machines


def test_a_card_without_its_driver(tmp_path: Path):
    tree = lay(tmp_path, {
        "/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
        "/sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    })  # fmt: skip
    finding = by_subject(examine(tree, Python(version="3.12.3", prefix="/p", path=(),
                                              groups=None)))["gpu"]  # fmt: skip
    assert (finding.verdict, finding.found) == ("warn", "an NVIDIA card without its driver")


SITE = "/p/lib/python3.12/site-packages"


def broken(tmp_path: Path, files: Files, version: str = "3.12.3") -> Found:
    python = Python(version=version, prefix="/p", path=(SITE,), groups=None)
    return by_subject(examine(lay(tmp_path, files), python))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["pillow-13.0"], "not installed"),
        (["pillow-13.0", "onnxruntime-1.32.0", "onnxruntime_gpu-1.31.1"], "share one module"),
    ],
)
def test_what_makes_running_impossible_is_marked_so(tmp_path: Path, names: list[str], found: str):
    finding = broken(tmp_path, wheels(SITE, *names))["onnxruntime"]
    assert (finding.verdict, finding.needed) == ("fail", True)
    assert found in finding.found


def test_an_old_python(tmp_path: Path):
    finding = broken(tmp_path, {}, version="3.8.10")["python"]
    assert (finding.verdict, finding.needed) == ("fail", True)


@pytest.mark.parametrize(
    ("release", "verdict", "found"),
    [
        ("# R35 (release), REVISION: 6.1, GCID: 1", "warn", "L4T 35.6.1, JetPack 5"),
        ("# R36 (release), REVISION: 3.0, GCID: 1", "warn", "JetPack 6.0"),
        ("# R36 (release), REVISION: 5.2, GCID: 1", "ok", "JetPack 6.2.2"),
        ("# R39 (release), REVISION: 2.1, GCID: 1", "ok", "JetPack 7.2.1"),
        ("# R44 (release), REVISION: 1.0, GCID: 1", "unknown", "JetPack unknown"),
        ("gibberish", "unknown", "L4T unknown"),
    ],
)
def test_releases_of_jetpack(tmp_path: Path, release: str, verdict: str, found: str):
    tree, python = orin_nano(tmp_path)
    (tmp_path / "etc/nv_tegra_release").write_text(release)
    (tmp_path / "var/lib/dpkg/status").write_text("")
    finding = by_subject(examine(tree, python))["jetpack"]
    assert finding.verdict == verdict
    assert found in finding.found


@pytest.mark.parametrize(
    ("versions", "found"),
    [(["9.3.0", "9.12.0"], "9.12.0"), (["9", "9.12.0"], "9.12.0"), (["9"], "9"), ([], "")],
)
def test_versions_are_compared_number_by_number(tmp_path: Path, versions: list[str], found: str):
    files = {f"{ARM}/libcudnn.so.{version}": "" for version in versions}
    debs = {f"cuda-cudart-{v.replace('.', '-')}": f"{v}.61-1" for v in ("9.2", "12.6")}
    tree = lay(tmp_path, {f"{ARM}/libc.so.6": "", **files})
    assert library_version(tree, "libcudnn") == found
    assert package_version(debs, r"cuda-cudart-\d+-\d+") == "12.6.61"


def test_tensorrt_of_another_python(tmp_path: Path):
    tree, python = orin_nano(tmp_path)
    other = Python(version="3.11.9", prefix="/p", path=python.path, groups=python.groups)
    finding = by_subject(examine(tree, other))["tensorrt-python"]
    assert finding.found == "it is for Python 3.10, and this is 3.11"
    assert "/usr/bin/python3.10 -m venv --system-site-packages" in finding.remedy


def test_a_jetson_without_its_gpu_nodes_is_a_container_without_the_runtime(tmp_path: Path):
    tree, python = orin_nano(tmp_path)
    (tmp_path / "dev/nvhost-gpu").unlink()
    finding = by_subject(examine(tree, python))["gpu"]
    assert finding.verdict == "fail"
    assert "--runtime nvidia" in finding.remedy


def test_a_provider_that_is_linked_with_another_tensorrt(tmp_path: Path):
    tree, python = pc(tmp_path)
    next(tmp_path.rglob("libnvinfer.so.10")).unlink()
    finding = by_subject(examine(tree, python))["ort-trt"]
    assert finding.verdict == "fail"
    assert "needs libnvinfer.so.10, which is not here" in finding.found
    assert finding.remedy == "pip install 'tensorrt-cu12>=10,<11'"  # as it links libcudart.so.12


def test_a_damaged_library_is_unknown_and_no_crash(tmp_path: Path):
    tree, python = pc(tmp_path)
    cuda = next(tmp_path.rglob("libonnxruntime_providers_cuda.so"))
    cuda.write_bytes(cuda.read_bytes()[:200])
    finding = by_subject(examine(tree, python))["ort-cuda"]
    assert finding.verdict == "unknown"
    assert "truncated" in finding.found


def test_little_memory(tmp_path: Path):
    files = {"/proc/meminfo": meminfo(MemTotal=2000, MemAvailable=300)}
    assert broken(tmp_path, files)["memory"].found == "300 MB available of 2000 MB"


def test_an_empty_tree_gives_findings_and_no_exception(tmp_path: Path):
    found = broken(tmp_path, {})
    assert found["memory"].verdict == "unknown"
    assert found["gpu"].found == "no NVIDIA GPU; ort-cpu is the backend"


def test_every_file_of_a_board_may_be_missing_or_unreadable(tmp_path: Path):
    tree, python = orin_nano(tmp_path / "board")
    files = [p for p in (tmp_path / "board").rglob("*") if p.is_file() and not p.is_symlink()]
    for path in files:
        content = path.read_bytes()
        path.unlink()
        examine(tree, python)
        path.write_bytes(b"\xff\xfe\0 \n" * 3)
        examine(tree, python)
        path.write_bytes(content)
    assert len(files) > 40


def test_this_machine_runs_what_is_tested_here():
    """This machine itself: the one tree that is not laid out by hand, and no board."""
    found = by_subject(examine())
    for what in ("python", "onnxruntime", "video", "images"):
        assert found[what].verdict == "ok"
    assert not any(f.needed and f.verdict == "fail" for f in found.values())
