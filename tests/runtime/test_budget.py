"""Row 18 of the fault list: a bundle that cannot fit into memory is refused before it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevlm.bundle import Bundle
from edgevlm.errors import BackendError
from edgevlm.runtime.model import budget
from edgevlm.runtime.model.budget import check_memory
from edgevlm.runtime.model.lanes import load_lanes
from edgevlm.runtime.model.load import load


def tree(root: Path, free: int, swap: int = 0, limits: dict[str, str] | None = None) -> Path:
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(
        f"MemTotal: 99999999 kB\nMemAvailable: {free // 1024 + 1} kB\nSwapFree: {swap // 1024} kB\n"
    )
    for name, text in (limits or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def need(bundle: Bundle, lanes: int = 1) -> int:
    plan = bundle.manifest.memory
    return plan.weights + lanes * plan.kv_cache


@pytest.mark.parametrize(
    ("share", "swap", "limits", "fits"),
    [
        (1.0, 0, {}, True),
        (0.9, 0, {}, False),
        (0.9, 0.2, {}, True),
        (2.0, 0, {"sys/fs/cgroup/memory.max": "max\n"}, True),
        (2.0, 0, {"sys/fs/cgroup/memory.max": "100000\n"}, False),
        (2.0, 0, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "100000\n"}, False),
    ],
)
def test_weights_and_caches_must_fit(
    tiny: Bundle, tmp_path: Path, share: float, swap: float, limits: dict[str, str], fits: bool
):
    whole = need(tiny)
    root = tree(tmp_path, int(share * whole), int(swap * whole), limits)
    if fits:
        check_memory(tiny.manifest, root=root)
        with pytest.raises(BackendError, match="1000 KV cache"):
            check_memory(tiny.manifest, 1000, root=root)
    else:
        with pytest.raises(BackendError, match=r"needs at least \d+ MB .* to be had here: end oth"):
            check_memory(tiny.manifest, root=root)


def test_where_nothing_is_known_nothing_is_refused(tiny: Bundle, tmp_path: Path):
    check_memory(tiny.manifest, root=tmp_path)


def test_a_load_is_refused_before_a_graph_is_read(tiny: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "_available", lambda _: need(tiny, 2))
    load(tiny.root).close()
    with pytest.raises(BackendError, match="to be had here"):
        load_lanes(3, tiny.root)
    monkeypatch.setattr(budget, "_available", lambda _: 1000)
    with pytest.raises(BackendError, match="to be had here"):
        load(tiny.root)
