"""File trees of boards, built from documented layouts. None was recorded from a board here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevlm.runtime.device.doctor import FileTree, Python
from tests.runtime.doctor.elf import elf, library

Files = dict[str, str]


def lay(root: Path, files: Mapping[str, str]) -> FileTree:
    """Write ``files`` under ``root``; a text ``-> NAME`` becomes a link."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return FileTree(root)


def dpkg(**versions: str) -> str:
    """``/var/lib/dpkg/status``; underscores in names stand for hyphens."""
    return (
        "\n\n".join(
            f"Package: {name.replace('_', '-')}\nStatus: install ok installed\nPriority: optional\n"
            f"Architecture: arm64\nVersion: {version}\nDescription: a package\n and more of it"
            for name, version in versions.items()
        )
        + "\n\nPackage: cuda-cudart-11-4\nStatus: deinstall ok config-files\nVersion: 11.4.1-1\n"
    )


def meminfo(**megabytes: int) -> str:
    """``/proc/meminfo`` in kB."""
    return "".join(f"{name}:  {value * 1000} kB\n" for name, value in megabytes.items())


def wheels(folder: str, *names: str) -> Files:
    """The metadata folders that pip leaves behind, as ``pillow-12.0.0``."""
    return {f"{folder}/{name}.dist-info/METADATA": "Metadata-Version: 2.1\n" for name in names}


CORES = "".join(
    f"processor\t: {i}\nFeatures\t: fp asimd aes asimdhp asimddp uscat\n" for i in range(6)
)
GROUPS = "root:x:0:\nvideo:x:44:ubuntu\nrender:x:104:ubuntu\nubuntu:x:1000:\n"
ARM = "/usr/lib/aarch64-linux-gnu"


def python(version: str, groups: set[int], *path: str) -> Python:
    """The interpreter of a virtual environment at /home/ubuntu/.venv."""
    minor = version.rpartition(".")[0]
    site = f"/home/ubuntu/.venv/lib/python{minor}/site-packages"
    return Python(version=version, prefix="/home/ubuntu/.venv", path=(site, *path),
                  groups=frozenset(groups))  # fmt: skip


def orin_nano(root: Path) -> tuple[FileTree, Python]:
    """Orin Nano 8GB as JetPack 6.2 leaves it, with pip's onnxruntime-gpu in a closed venv.

    ``/etc/nv_tegra_release``, device tree, ``/sys/class/devfreq/17000000.gpu`` and thermal zones:
    where jetson_stats reads them (rbonghi/jetson_stats, jtop/core/jetson_variables.py, gpu.py,
    temperature.py). ``/var/lib/nvpmodel/status`` holds ``pmode:0000``; modes 15W, 25W, MAXN_SUPER,
    7W as nvpmodel_p3767_0003_super.conf has them (Jetson Linux Developer Guide r36.4.3, Platform
    Power and Performance; also for oc*_event_cnt). Packages: libnvinfer10 10.3.0.30-1+cuda12.5,
    cuda-cudart-12-6, libcudnn9-cuda-12 9.3.0.75-1, of NVIDIA's apt repository r36.4. Desktop, zram
    and 256 MB of CMA are the defaults of the image (NVIDIA forum; export.md 4.3, peers item 11).
    """
    site = "/home/ubuntu/.venv/lib/python3.10/site-packages"
    thermal = "/sys/class/thermal"
    tree = lay(root, {
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
        "EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
        "TARGET_USERSPACE_LIB_DIR=nvidia\n",
        "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit "
        "Super\0",
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0"
        "nvidia,tegra234\0",
        "/proc/cpuinfo": CORES,
        "/proc/meminfo": meminfo(MemTotal=7620, MemFree=2100, MemAvailable=4900, SwapTotal=3810,
                                 CmaTotal=268, CmaFree=190),
        "/proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 635000 0 5\n",
        "/sys/block/zram0/disksize": "650000000\n",
        "/sys/block/nvme0n1/size": "500118192\n",
        "/etc/systemd/system/default.target": "-> /lib/systemd/system/graphical.target",
        "/etc/nvpmodel.conf": "-> nvpmodel/nvpmodel_p3767_0003_super.conf",
        "/etc/nvpmodel/nvpmodel_p3767_0003_super.conf": "#\n< POWER_MODEL ID=0 NAME=15W >\n"
        "CPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
        "< POWER_MODEL ID=3 NAME=7W >\n< PM_CONFIG DEFAULT=1 >\n",
        "/var/lib/nvpmodel/status": "pmode:0000",
        "/sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "/sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
        "/sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
        "/sys/class/hwmon/hwmon1/name": "ina3221\n",
        "/sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
        "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "/sys/class/hwmon/hwmon3/oc2_event_cnt": "0\n",
        "/sys/class/hwmon/hwmon3/oc3_event_cnt": "27\n",
        f"{thermal}/thermal_zone0/type": "cpu-thermal\n",
        f"{thermal}/thermal_zone0/temp": "63625\n",
        f"{thermal}/thermal_zone0/trip_point_0_type": "passive\n",
        f"{thermal}/thermal_zone0/trip_point_0_temp": "99000\n",
        f"{thermal}/thermal_zone2/type": "cv0-thermal\n",
        f"{thermal}/cooling_device0/type": "pwm-fan\n",
        f"{thermal}/cooling_device0/cur_state": "2\n",
        f"{thermal}/cooling_device3/type": "hot-surface-alert\n",
        f"{thermal}/cooling_device3/cur_state": "1\n",
        f"{thermal}/cooling_device1/type": "cpufreq-cpu0\n",
        f"{thermal}/cooling_device1/cur_state": "0\n",
        "/var/lib/dpkg/status": dpkg(
            nvidia_l4t_core="36.4.3-20250107174145", libnvinfer10="10.3.0.30-1+cuda12.5",
            python3_libnvinfer="10.3.0.30-1+cuda12.5", cuda_cudart_12_6="12.6.68-1",
            libcudnn9_cuda_12="9.3.0.75-1",
        ),
        "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
        "/dev/nvhost-gpu": "", "/dev/nvmap": "", "/dev/v4l2-nvdec": "", "/dev/dri/renderD128": "",
        f"{ARM}/gstreamer-1.0/libgstnvvideo4linux2.so": "",
        f"{ARM}/gstreamer-1.0/libgstnvvidconv.so": "",
        f"{ARM}/gstreamer-1.0/libgstnvarguscamerasrc.so": "",
        "/usr/sbin/nvargus-daemon": "",
        "/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
        "/sys/class/video4linux/video0/index": "0\n",
        "/dev/video0": "",
        "/etc/group": GROUPS,
        **wheels(site, "onnxruntime_gpu-1.23.0", "pillow-12.3.0", "numpy-2.2.6"),
    })  # fmt: skip
    library(root / f"{site}/onnxruntime/capi/libonnxruntime_providers_cuda.so".lstrip("/"),
            [89, 90, 120, 121])  # fmt: skip
    return tree, python("3.10.12", {1000, 44})


def orin_nx(root: Path) -> tuple[FileTree, Python]:
    """Orin NX 16GB on JetPack 7.2 (L4T r39.2), set up as docs/jetson.md says.

    ``R39 (release), REVISION: 2.0``, kernel 6.8.12-1021-tegra, driver 595.78, Python 3.12.3,
    TensorRT 10.16.2.10-1+cuda13.2, cuDNN 9.20.0.46-1: as users of r39.2 print them (NVIDIA forum
    thread 372151; roboflow/inference pull request 2531; OE4T/meta-tegra pull request 2224). The
    classic nvgpu devfreq node stays on Orin (jtop/core/hw_detect.py).
    """
    site = "/home/ubuntu/.venv/lib/python3.12/site-packages"
    dist = "/usr/lib/python3.12/dist-packages"
    tree = lay(root, {
        "/etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, "
        "EABI: aarch64, DATE: Mon Jun  1 09:28:48 PM UTC 2026\n# KERNEL_VARIANT: oot\n",
        "/proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0",
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0000\0nvidia,p3767-0000\0"
        "nvidia,tegra234\0",
        "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  "
        "595.78  Release Build  (buildbrain@mobile-u64)\nGCC version: gcc version 13.2.0\n",
        "/proc/cpuinfo": CORES,
        "/proc/meminfo": meminfo(MemTotal=16200, MemAvailable=12800, SwapTotal=0,
                                 CmaTotal=950, CmaFree=940),
        "/etc/systemd/system/default.target": "-> /usr/lib/systemd/system/multi-user.target",
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=10W >\n"
        "< POWER_MODEL ID=2 NAME=15W >\n< POWER_MODEL ID=3 NAME=25W >\n< PM_CONFIG DEFAULT=2 >\n",
        "/var/lib/nvpmodel/status": "pmode:0000\n",
        "/sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
        "/sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
        "/sys/class/devfreq/17000000.gpu/governor": "performance\n",
        "/sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
        "/sys/class/thermal/thermal_zone8/type": "tj-thermal\n",
        "/sys/class/thermal/thermal_zone8/temp": "51000\n",
        "/var/lib/dpkg/status": dpkg(
            nvidia_l4t_core="39.2.0-20260601212848", nvidia_jetpack="7.2-b187",
            libnvinfer10="10.16.2.10-1+cuda13.2", python3_libnvinfer="10.16.2.10-1+cuda13.2",
            libcudnn9_cuda_13="9.20.0.46-1",
        ),
        "/usr/local/cuda": "-> cuda-13.2",
        "/usr/local/cuda-13.2/version.json": '{"cuda": {"name": "CUDA SDK", "version": "13.2.1"}}',
        f"{dist}/tensorrt/__init__.py": "",
        "/dev/nvhost-gpu": "", "/dev/v4l2-nvdec": "", "/dev/dri/renderD128": "",
        f"{ARM}/nvidia/libnvargus.so": "",
        f"{ARM}/gstreamer-1.0/libgstnvvideo4linux2.so": "",
        "/sys/class/video4linux/video0/name": "HD Pro Webcam C920\n",
        "/sys/class/video4linux/video0/index": "0\n",
        "/sys/class/video4linux/video1/name": "HD Pro Webcam C920\n",
        "/sys/class/video4linux/video1/index": "1\n",
        "/dev/video0": "", "/dev/video1": "",
        "/etc/group": GROUPS,
        **wheels(site, "onnxruntime-1.32.0", "pillow-13.0.0"),
    })  # fmt: skip
    return tree, python("3.12.3", {1000, 44, 104}, "/usr/lib/python3/dist-packages", dist)


def thor(root: Path) -> tuple[FileTree, Python]:
    """AGX Thor on JetPack 7.0 (L4T r38.2.2) with the registry's onnxruntime-gpu and TensorRT 11.

    ``nvidia,tegra264``, ``gpu-gpc-0`` and the PC driver's ``/dev/nvidiactl``: jtop/core/
    hw_detect.py and thor_gpu.py. CUDA 13.0, cuDNN 9.12, libnvinfer10 10.13.3.9-1+cuda13.0: as
    users of r38.2 print them. TensorRT 11 excludes JetPack (its release notes, 11.2 to 11.4).
    """
    site = "/home/ubuntu/.venv/lib/python3.12/site-packages"
    tree = lay(root, {
        "/etc/nv_tegra_release": "# R38 (release), REVISION: 2.2, GCID: 42205042, BOARD: generic, "
        "EABI: aarch64, DATE: Thu Sep 25 22:47:11 UTC 2025\n# KERNEL_VARIANT: oot\n",
        "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "/proc/device-tree/compatible": "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264\0",
        "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  "
        "580.00  Release Build  (buildbrain@mobile-u64)\n",
        "/proc/cpuinfo": CORES,
        "/proc/meminfo": meminfo(MemTotal=125800, MemAvailable=119000, SwapTotal=2000),
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n"
        "< PM_CONFIG DEFAULT=1 >\n",
        "/sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
        "/sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
        "/sys/class/devfreq/gpu-gpc-0/governor": "nvhost_podgov\n",
        "/sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
        "/sys/class/thermal/thermal_zone0/temp": "99500\n",
        "/sys/class/thermal/thermal_zone0/trip_point_1_type": "passive\n",
        "/sys/class/thermal/thermal_zone0/trip_point_1_temp": "99000\n",
        "/sys/class/thermal/cooling_device4/type": "gpu-gpc-0\n",
        "/sys/class/thermal/cooling_device4/cur_state": "3\n",
        "/var/lib/dpkg/status": dpkg(
            nvidia_l4t_core="38.2.2-20250925153837", libnvinfer10="11.4.0.106-1+cuda13.0",
        ),
        "/usr/local/cuda/version.json": '{"cuda": {"version": "13.0.0"}}',
        f"{ARM}/libcudnn.so.9": "", f"{ARM}/libcudnn.so.9.12.0": "",
        "/dev/nvidiactl": "", "/dev/nvidia0": "", "/dev/dri/renderD128": "",
        "/etc/group": GROUPS,
        **wheels(site, "onnxruntime_gpu-1.31.1", "pillow-13.0.0", "tensorrt_rtx_cu13_libs-1.7.1",
                 "cuda_bindings-12.9.4"),
    })  # fmt: skip
    library(root / f"{site}/onnxruntime/capi/libonnxruntime_providers_cuda.so".lstrip("/"),
            [89, 90, 120, 121])  # fmt: skip
    return tree, python("3.12.3", {1000, 44, 104})


def pc(root: Path, card: str = "NVIDIA GeForce RTX 4090") -> tuple[FileTree, Python]:
    """An x86-64 PC with an RTX card, onnxruntime-gpu of the registry and TensorRT 10 in a wheel.

    ``/proc/driver/nvidia/version`` and ``gpus/*/information``: NVIDIA driver README, "The NVIDIA
    /proc interface". The wheel of onnxruntime-gpu 1.31 holds code for 75 to 120 and a TensorRT
    provider linked with libnvinfer.so.10 (export.md 5.3).
    """
    site = "/home/ubuntu/.venv/lib/python3.12/site-packages"
    tree = lay(root, {
        "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  "
        "Thu Feb 22 01:44:30 UTC 2024\n",
        "/proc/driver/nvidia/gpus/0000:01:00.0/information": f"Model: \t\t {card}\n"
        "IRQ:   \t\t 124\nGPU UUID: \t GPU-0\nVideo BIOS: \t 95.02.3c.00.01\n",
        "/proc/cpuinfo": "processor\t: 0\nflags\t: fpu avx2 avx512_vnni\n",
        "/proc/meminfo": meminfo(MemTotal=64000, MemAvailable=50000, SwapTotal=0),
        "/dev/nvidiactl": "", "/dev/dri/renderD128": "",
        "/usr/lib/x86_64-linux-gnu/libnvcuvid.so.1": "",
        f"{site}/tensorrt_libs/libnvinfer.so.10": "",
        "/etc/group": GROUPS,
        **wheels(site, "onnxruntime_gpu-1.31.1", "pillow-13.0.0", "tensorrt_cu12-10.13.0.35"),
        f"{site}/tensorrt/__init__.py": "",
    })  # fmt: skip
    capi = root / f"{site}/onnxruntime/capi".lstrip("/")
    library(capi / "libonnxruntime_providers_cuda.so", [75, 80, 86, 89, 90, 120])
    trt = elf({}, needed=["libnvinfer.so.10", "libcudart.so.12"])
    (capi / "libonnxruntime_providers_tensorrt.so").write_bytes(trt)
    return tree, python("3.12.3", {1000, 104})
