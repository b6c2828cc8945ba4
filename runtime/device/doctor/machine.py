"""What every probe is given: the files, the interpreter, and what was read once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from edgevlm.runtime.device.doctor.board import Board, identify
from edgevlm.runtime.device.doctor.installed import Python, debian_packages, distributions
from edgevlm.runtime.device.doctor.tree import FileTree


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A computer, seen through its files.

    Args:
        tree: the files.
        python: the interpreter.
        board: what computer it is.
        debs: Debian packages and their versions.
        dists: Python distributions and their versions and folders.
    """

    tree: FileTree
    python: Python
    board: Board
    debs: dict[str, str]
    dists: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, tree: FileTree, python: Python) -> Machine:
        """Gather what the probes share."""
        debs = debian_packages(tree)
        return cls(
            tree=tree,
            python=python,
            board=identify(tree, debs),
            debs=debs,
            dists=distributions(tree, python.path),
        )

    def version(self, distribution: str) -> str:
        """The version of a Python distribution, empty if it is absent."""
        return self.dists.get(distribution, ("", ""))[0]
