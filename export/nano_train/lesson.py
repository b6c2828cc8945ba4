"""Steps of a lesson: rates, clipping, a log, and a place to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

KEPT_EVERY = 100
WARM = 50
Group = dict[str, Any]


class Lesson:
    """Trains until its last step, whatever interrupts it.

    Args:
        folder: of the run; ``NAME.pt`` and ``NAME.jsonl`` are kept there.
        name: of the lesson.
        groups: what is trained, as AdamW takes it, each with its highest rate as ``peak``.
        modules: whose state is kept, by name.
        steps: in all.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        groups: list[Group],
        modules: Mapping[str, Any],
        steps: int,
    ) -> None:
        self._path = folder / f"{name}.pt"
        self._log = folder / f"{name}.jsonl"
        self._modules = modules
        self.steps = steps
        self._groups = groups
        self._optimizer = torch.optim.AdamW(
            [{"params": g["params"], "lr": g["peak"]} for g in groups],
            weight_decay=0.02,
            betas=(0.9, 0.98),
        )
        self.step = 0
        if self._path.is_file():
            kept = torch.load(
                self._path, weights_only=True, map_location=torch.get_default_device()
            )
            self.step = int(kept["step"])
            self._optimizer.load_state_dict(kept["optimizer"])
            for key, module in modules.items():
                module.load_state_dict(kept[key], strict=False)

    def run(self, losses: Callable[[int], tuple[Tensor, dict[str, Tensor]]]) -> Iterator[int]:
        """Take the steps that are left.

        Args:
            losses: of a step, by its number: what is minimised, and what is logged.

        Yields:
            steps that are done.
        """
        started = time.monotonic()
        while self.step < self.steps:
            rate = self._rate(self.step)
            for group, own in zip(self._optimizer.param_groups, self._groups, strict=True):
                group["lr"] = rate * own["peak"]
            loss, told = losses(self.step)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in self._optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            self._optimizer.step()
            self.step += 1
            row = {"step": self.step, "seconds": round(time.monotonic() - started, 1)}
            row |= {name: round(value.detach().item(), 4) for name, value in told.items()}
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self.step % KEPT_EVERY == 0 or self.step == self.steps:
                self.keep()
            yield self.step

    def _rate(self, step: int) -> float:
        """Share of the highest rate: linear at first, then half a cosine."""
        return min(1.0, (step + 1) / WARM) * (
            0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        )

    def keep(self) -> None:
        """Write everything that is needed to go on."""
        state: dict[str, Any] = {key: _trained(m) for key, m in self._modules.items()}
        state |= {"step": self.step, "optimizer": self._optimizer.state_dict()}
        part = self._path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._path)


def _trained(module: Any) -> dict[str, Tensor]:
    """What is trained of it; frozen weights come from their package again."""
    names = {n for n, p in module.named_parameters() if p.requires_grad}
    return {n: t for n, t in module.state_dict().items() if n in names}
