"""The reader of torch's legacy files: exact, and deaf to everything but tensors."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevlm.errors import CheckpointError
from edgevlm.export.nano.packages import ENCODER
from edgevlm.export.torch_legacy import MAGIC, PROTOCOL, read_state_dict


def save_legacy(state: dict[str, Any], path: Path) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        array = found[name]
        assert array.shape == tuple(tensor.shape), name
        assert array.dtype == tensor.numpy().dtype, name
        assert np.array_equal(array, tensor.numpy()), name


def test_the_efficientnet_file_reads_as_torch_reads_it() -> None:
    path = ENCODER.locate()
    wanted = torch.load(path, weights_only=True, map_location="cpu")
    assert len(wanted) > 200
    assert_same(read_state_dict(path), wanted)


def test_views_scalars_empties_and_shared_storages_read_as_torch_reads_them(
    tmp_path: Path,
) -> None:
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "whole": base,
        "tail": base[5:],
        "transposed": base.reshape(4, 6).T,
        "strided": base.reshape(2, 3, 4)[:, 1, ::2],
        "scalar": torch.tensor(7, dtype=torch.int64),
        "last": base[23],
        "empty": torch.zeros(0, 3),
        "half": torch.tensor([1.5, -2.0, 65504.0], dtype=torch.float16),
        "long": torch.tensor([[2**62, -1]]),
    }
    path = save_legacy(state, tmp_path / "s.pth")
    assert_same(read_state_dict(path), torch.load(path, weights_only=True))


def test_the_state_dict_of_a_module_reads_with_its_metadata(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    path = save_legacy(module.state_dict(), tmp_path / "m.pth")
    assert_same(read_state_dict(path), dict(module.state_dict()))


def test_what_is_read_does_not_alias(tmp_path: Path) -> None:
    base = torch.arange(4, dtype=torch.float32)
    found = read_state_dict(save_legacy({"a": base, "b": base}, tmp_path / "s.pth"))
    found["a"][0] = 99
    assert found["b"][0] == 0


def legacy(
    state: bytes, keys: bytes | None = None, values: bytes = b"", head: list[bytes] | None = None
) -> bytes:
    """A file in the legacy layout around hand-made pickles."""
    parts = head or [pickle.dumps(v, 2) for v in (MAGIC, PROTOCOL, {"little_endian": True})]
    return b"".join(parts) + state + (pickle.dumps(["0"], 2) if keys is None else keys) + values


class Tensor:
    """Pickles as torch pickles a tensor over storage ``key``."""

    def __init__(
        self, shape: Any = (4,), strides: Any = (1,), offset: Any = 0, key: str = "0", **odd: Any
    ) -> None:
        self.arguments = (shape, strides, offset)
        self.pid = odd.get("pid", ("storage", torch.FloatStorage, key, "cpu", 4, None))


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.value if isinstance(obj, Pid) else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            shape, strides, offset = obj.arguments
            arguments = (Pid(obj.pid), offset, shape, strides, False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments
        return NotImplemented


class Pid:
    def __init__(self, value: Any) -> None:
        self.value = value


def state_pickle(state: Any, protocol: int = 2) -> bytes:
    import io

    stream = io.BytesIO()
    Pickler(stream, protocol).dump(state)
    return stream.getvalue()


VALUES = struct.pack("<Q4f", 4, 1, 2, 3, 4)


def refuse(path: Path, raw: bytes, match: str | None = None) -> None:
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=match) as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


def test_a_hand_made_file_reads(tmp_path: Path) -> None:
    path = tmp_path / "h.pth"
    path.write_bytes(legacy(state_pickle({"w": Tensor((2, 2), (2, 1))}), values=VALUES))
    assert_same(read_state_dict(path), {"w": torch.tensor([[1.0, 2], [3, 4]])})
    assert_same(read_state_dict(path), torch.load(path, weights_only=True))


class Reduces:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Bystander:
    """A class of somebody's, with a setter that would run."""

    canary: Path

    def __setstate__(self, state: Any) -> None:
        Bystander.canary.touch()


def attacks(canary: Path) -> dict[str, Any]:
    import os
    import subprocess

    Bystander.canary = canary
    touch = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    bystander = Bystander()
    bystander.__dict__["x"] = 1
    return {
        "os.system": Reduces(os.system, f"touch {canary}"),
        "eval": Reduces(eval, touch),
        "exec": Reduces(exec, touch),
        "Popen": Reduces(subprocess.Popen, ["touch", str(canary)]),
        "open": Reduces(open, str(canary), "w"),
        "getattr": Reduces(getattr, OrderedDict, "fromkeys"),
        "a class": bystander,
        "a bare class": Bystander,
        "numpy": np.arange(3),
        "numpy scalar": np.float64(1),
        "torch.load": Reduces(torch.load, str(canary)),
        "a path": canary,
        "a parameter": torch.nn.Parameter(torch.ones(2)),
    }


@pytest.mark.parametrize("attack", ["os.system", "eval", "exec", "open", "a class"])
def test_the_attacks_below_do_work_on_a_plain_unpickler(tmp_path: Path, attack: str) -> None:
    canary = tmp_path / "canary"
    made = pickle.loads(pickle.dumps(attacks(canary)[attack]))
    if hasattr(made, "close"):
        made.close()
    assert canary.exists()


@pytest.mark.parametrize("place", ["magic", "system", "state", "inside", "keys"])
@pytest.mark.parametrize("attack", attacks(Path("never")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_something_is_refused_unrun(
    tmp_path: Path, attack: str, place: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    evil = pickle.dumps(attacks(canary)[attack], protocol)
    good = state_pickle({"w": Tensor()})
    head = [pickle.dumps(v, 2) for v in (MAGIC, PROTOCOL, {})]
    if place == "magic":
        raw = legacy(good, values=VALUES, head=[evil, *head[1:]])
    elif place == "system":
        raw = legacy(good, values=VALUES, head=[*head[:2], evil])
    elif place == "state":
        raw = legacy(evil, values=VALUES)
    elif place == "inside":
        both = {"w": Tensor(), "extra": attacks(canary)[attack]}
        raw = legacy(state_pickle(both, protocol), values=VALUES)
    else:
        raw = legacy(good, keys=evil, values=VALUES)
    (tmp_path / "files").mkdir()
    refuse(tmp_path / "files" / "evil.pth", raw)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.pth", "files"]


@pytest.mark.parametrize(
    "opcodes",
    [
        b"ccollections\nOrderedDict.fromkeys\n.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05torch\x8c\x0a_C._import\x93.",
        b"ctorch\nload\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n(t(ttR.",
        b"\x80\x02\x82\x01.",
        b"Pstorage\n.",
        b"(lp0\n.",
        b"N.",
        b"I5\n.",
    ],
)
def test_hand_written_opcodes_are_refused(tmp_path: Path, opcodes: bytes) -> None:
    refuse(tmp_path / "x.pth", legacy(opcodes, values=VALUES))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor((5,), (1,)),
        Tensor((4,), (1,), offset=1),
        Tensor((2,), (1,), offset=-1),
        Tensor((10,), (1,), offset=-6),
        Tensor((4,), (-1,), offset=3),
        Tensor((-4,), (1,)),
        Tensor((2, 2), (3, 1)),
        Tensor((2,), (2**62,)),
        Tensor((2**62, 4), (0, 1)),
        Tensor((2**20, 2**20), (0, 0)),
        Tensor((1 << 31,), (0,)),
        Tensor((2, 2), (1,)),
        Tensor((), (), offset=4),
        Tensor(("4",), ("x",)),
        Tensor(None, None),
        Tensor((4,), (1,), key="1"),
        Tensor(pid=("storage", torch.FloatStorage, "0")),
        Tensor(pid=("module", torch.FloatStorage, "0", "cpu", 4, None)),
        Tensor(pid=("storage", "FloatStorage", "0", "cpu", 4, None)),
        Tensor(pid=("storage", torch.IntStorage, "0", "cpu", 4, None)),
        Tensor(pid=("storage", torch.LongStorage, "0", "cpu", 4, None)),
        Tensor(pid="storage"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path, tensor: Tensor) -> None:
    refuse(tmp_path / "x.pth", legacy(state_pickle({"w": tensor}), values=VALUES))


@pytest.mark.parametrize("count", [0, 3, 5, 2**31, 2**61, 2**62, 2**64 - 1])
def test_a_storage_whose_count_lies_is_refused(tmp_path: Path, count: int) -> None:
    values = struct.pack("<Q4f", count, 1, 2, 3, 4)
    refuse(tmp_path / "x.pth", legacy(state_pickle({"w": Tensor()}), values=values))


@pytest.mark.parametrize("keys", [[], ["0", "1"], ["1"], [None], 5, None, {"0": 1, "1": 2}])
def test_a_list_of_storages_that_does_not_fit_is_refused(tmp_path: Path, keys: Any) -> None:
    raw = legacy(state_pickle({"w": Tensor()}), pickle.dumps(keys, 2), VALUES)
    refuse(tmp_path / "x.pth", raw)


def test_another_magic_protocol_or_format_is_named(tmp_path: Path) -> None:
    good = state_pickle({"w": Tensor()})
    heads = [pickle.dumps(v, 2) for v in (MAGIC, PROTOCOL, {})]
    for at, value in ((0, MAGIC + 1), (1, 1002)):
        odd = [*heads[:at], pickle.dumps(value, 2), *heads[at + 1 :]]
        refuse(tmp_path / "x.pth", legacy(good, values=VALUES, head=odd), "not a torch file")
    torch.save({"w": torch.ones(2)}, tmp_path / "new.pth")
    refuse(tmp_path / "x.pth", (tmp_path / "new.pth").read_bytes())
    for raw in (b"", b"\0", b"PK\3\4", b"x" * 5000, np.random.default_rng(0).bytes(5000)):
        refuse(tmp_path / "x.pth", raw)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state_dict(tmp_path / "nowhere.pth")


def test_a_small_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0), "b": torch.arange(3)}
    raw = save_legacy(state, tmp_path / "s.pth").read_bytes()
    for size in range(len(raw)):
        refuse(tmp_path / "cut.pth", raw[:size])


def test_the_efficientnet_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    raw = ENCODER.locate().read_bytes()
    sizes = [int(n) for n in np.geomspace(1, len(raw) - 1, 25)]
    for size in [*sizes, len(raw) - 4, len(raw) - 1]:
        refuse(tmp_path / "cut.pth", raw[:size], "truncated")
