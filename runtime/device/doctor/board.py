"""What computer this is: the Jetson module, its JetPack, or the cards in a PC."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgevlm.runtime.device.doctor.tree import FileTree

# The SoC in the device tree's `compatible`, and its GPU's compute capability.
_SOCS = {"tegra264": ("Thor", 110), "tegra234": ("Orin", 87), "tegra194": ("Xavier", 72)}
# L4T releases and the JetPack that each belongs to; the longest match counts.
# Source: NVIDIA's JetPack archive.
_JETPACKS = {
    "39.2.1": "7.2.1", "39.2": "7.2", "38.4": "7.1", "38.2": "7.0",
    "36.5": "6.2.2", "36.4.7": "6.2.1", "36.4.4": "6.2.1", "36.4.3": "6.2", "36.4": "6.1",
    "36.3": "6.0", "36.2": "6.0", "35": "5",
}  # fmt: skip
# What NVIDIA's cards are called, and their compute capability.
_CARDS = (
    (r"RTX 50\d\d|RTX PRO \d+.*Blackwell", 120),
    (r"GB10\b", 121),
    (r"\bB200\b|\bGB200\b|\bB100\b", 100),
    (r"RTX 40\d\d|RTX \d+.* Ada\b|\bL40S?\b|\bL4\b", 89),
    (r"\bH100\b|\bH200\b|\bGH200\b", 90),
    (r"RTX 30\d\d|RTX A\d+|\bA10G?\b|\bA16\b|\bA2\b|\bA40\b", 86),
    (r"\bA100\b|\bA30\b", 80),
    (r"RTX 20\d\d|GTX 16\d\d|\bT4\b|Quadro RTX", 75),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A machine's identity.

    Args:
        model: as the device tree says; empty on a PC.
        soc: ``Orin``, ``Thor`` or ``Xavier``; empty where there is no Tegra.
        sm: compute capability of the GPU, 87 for 8.7; None without one, or of an unknown one.
        l4t: Jetson Linux release, as ``36.4.7``; empty elsewhere.
        jetpack: the JetPack release that it belongs to; empty if unknown.
        cards: names of NVIDIA cards that the driver knows.
    """

    model: str = ""
    soc: str = ""
    sm: int | None = None
    l4t: str = ""
    jetpack: str = ""
    cards: tuple[str, ...] = ()

    @property
    def jetson(self) -> bool:
        """True on a Tegra."""
        return bool(self.soc)

    @property
    def jetpack_major(self) -> int:
        """6 or 7; 0 if it is unknown."""
        return int(self.jetpack.split(".")[0] or 0)


def identify(tree: FileTree, debs: dict[str, str]) -> Board:
    """Read the device tree, Jetson Linux's release, and the driver's list of cards."""
    compatible = tree.text("/proc/device-tree/compatible") or ""
    soc, sm = next((v for name, v in _SOCS.items() if name in compatible), ("", None))
    cards = _cards(tree)
    if not soc:
        return Board(sm=_capability(cards), cards=cards)
    l4t = _l4t(tree) or debs.get("nvidia-l4t-core", "").split("-")[0]
    installed = re.match(r"\d+(\.\d+)*", debs.get("nvidia-jetpack", ""))
    return Board(
        model=tree.text("/proc/device-tree/model") or f"NVIDIA {soc}",
        soc=soc,
        sm=sm,
        l4t=l4t,
        jetpack=installed[0] if installed else _jetpack_of(l4t),
    )


def _l4t(tree: FileTree) -> str:
    """``# R36 (release), REVISION: 4.7, GCID: ...`` is 36.4.7."""
    text = tree.text("/etc/nv_tegra_release") or ""
    match = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{match[1]}.{match[2]}" if match else ""


def _jetpack_of(l4t: str) -> str:
    parts = l4t.split(".")
    for length in range(len(parts), 0, -1):
        if found := _JETPACKS.get(".".join(parts[:length])):
            return found
    return ""


def _cards(tree: FileTree) -> tuple[str, ...]:
    found = []
    for folder in tree.names("/proc/driver/nvidia/gpus"):
        text = tree.text(f"{folder}/information") or ""
        if match := re.search(r"^Model:\s*(.+)$", text, re.MULTILINE):
            found.append(match[1].strip())
    return tuple(found)


def _capability(cards: tuple[str, ...]) -> int | None:
    if not cards:
        return None
    return next((sm for pattern, sm in _CARDS if re.search(pattern, cards[0])), None)
