"""What was taught of one thing: patches of it, patches beside it, and what it looks like whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgevlm.errors import BankError, ContractError
from edgevlm.runtime.model.matching import Patches
from edgevlm.runtime.model.vlm import Vlm
from edgevlm.runtime.perception.bank import (
    VERSION,
    checked_patches,
    checked_rule,
    encoder_of,
    packed,
    read_bank,
    write_bank,
)
from edgevlm.runtime.perception.windows import whole_output
from edgevlm.tensors import Float32

NAME_AT_MOST = 60
Cosine = Annotated[float, Field(ge=-1, le=1)]


def checked_name(name: str) -> str:
    """The name of a thing, which is written into prompts.

    Raises:
        ContractError: empty, longer than ``NAME_AT_MOST`` characters, or not one printable line.
    """
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise ContractError(f"a thing's name is a text without space around it, got {name!r:.80}")
    if len(name) > NAME_AT_MOST or not name.isprintable():
        raise ContractError(
            f"a thing's name is one line of at most {NAME_AT_MOST} characters, got {name!r:.80}"
        )
    return name


class ThingRule(BaseModel):
    """What a bank of one thing says besides its patches.

    ``like`` are scores of the pictures of the thing, each held against the others; ``unlike`` of
    the places beside it that look most like it. ``threshold`` lies between them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["thing"] = "thing"
    version: Literal[1] = VERSION
    encoder: str
    name: Annotated[str, AfterValidator(checked_name)]
    pictures: int = Field(ge=1)
    boxed: bool = Field(description="its surroundings were shown too")
    like: tuple[Cosine, ...] = Field(min_length=1)
    unlike: tuple[Cosine, ...]
    threshold: Cosine


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thing:
    """One thing, as ``teach_thing`` learnt it.

    Args:
        rule: its name, and how far a place may differ from it.
        front: patches of it, of length 1.
        back: patches beside it; none where only crops were shown.
        looks: float32 ``(pictures, width)``, each of length 1: every picture of it as a whole.
    """

    rule: ThingRule
    front: Patches
    back: Patches | None
    looks: Float32

    @property
    def name(self) -> str:
        """What it is called."""
        return self.rule.name

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            BankError: the place cannot be written.
        """
        arrays = dict(packed(self.front))
        if self.back is not None:
            arrays |= {f"back_{name}": value for name, value in packed(self.back).items()}
        arrays["looks"] = self.looks.astype(np.float16)
        write_bank(path, self.rule, arrays)

    @classmethod
    def load(cls, path: Path, model: Vlm) -> Thing:
        """Read it.

        Raises:
            BankError: missing, damaged, of another kind, or made with another encoder.
        """
        raw, arrays = read_bank(path)
        rule, manifest = checked_rule(path, raw, ThingRule, "of a thing"), model.bundle.manifest
        if rule.encoder != encoder_of(manifest):
            raise BankError(
                f"{path} was taught with another encoder than that of {manifest.name}: teach it "
                "again with this bundle"
            )
        behind = {n.removeprefix("back_"): v for n, v in arrays.items() if n.startswith("back_")}
        looks = arrays.get("looks")
        if looks is None or looks.ndim != 2 or looks.dtype != np.float16 or not looks.size:
            raise BankError(f"{path} says nothing of the thing as a whole: teach it again")
        if not np.isfinite(looks).all() or looks.shape[0] != rule.pictures:
            raise BankError(f"{path}: looks {looks.shape} of {rule.pictures} pictures do not fit")
        return cls(
            rule=rule,
            front=checked_patches(path, arrays, manifest),
            back=checked_patches(path, behind, manifest) if behind else None,
            looks=looks.astype(np.float32),
        )


def load_things(paths: list[Path], model: Vlm) -> list[Thing]:
    """Things from banks, and from folders of banks by name.

    Raises:
        BankError: as ``Thing.load``; a folder without a bank, or two things of one name.
        ContractError: the bundle tells no things apart.
    """
    whole_output(model.bundle.manifest)
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not inside:
            raise BankError(f"{path} holds no bank: edgevlm teach --thing NAME -o {path}/NAME.npz")
        files += inside
    things = [Thing.load(file, model) for file in files]
    names = [thing.name for thing in things]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BankError(f"two banks are of {twice[0]!r}: teach one with all its pictures instead")
    return things
