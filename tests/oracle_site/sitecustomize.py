"""Let torchvision's CUDA build be imported beside a CPU torch: two operators are declared first.

Python imports this file at start-up where its folder is on PYTHONPATH; only `tests/oracles.py` puts
it there.
"""

from __future__ import annotations

import sys
from typing import Any


class DeclareOperators:
    """Runs once, when somebody asks for torchvision."""

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> None:
        """Declare the operators, and leave the import to the others."""
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        self.library = library  # it must outlive the import
        sys.modules["torchvision_operators"] = self  # type: ignore[assignment]


sys.meta_path.insert(0, DeclareOperators())  # type: ignore[arg-type]
