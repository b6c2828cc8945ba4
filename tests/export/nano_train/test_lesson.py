"""An interrupted lesson goes on to the same end."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from edgevlm.export.nano_train.curves import draw
from edgevlm.export.nano_train.lesson import Lesson


def lesson(folder: Path, steps: int = 6) -> tuple[nn.Linear, Lesson]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    groups = [{"params": list(module.parameters()), "peak": 0.1}]
    return module, Lesson(folder, "first", groups, {"module": module}, steps)


def losses(module: nn.Linear):
    def of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        loss = module(x).pow(2).mean()
        return loss, {"loss": loss}

    return of


def test_going_on_gives_what_one_go_gives(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, one_go = lesson(tmp_path / "a")
    assert list(one_go.run(losses(whole))) == [1, 2, 3, 4, 5, 6]

    part, interrupted = lesson(tmp_path / "b")
    for step in interrupted.run(losses(part)):
        if step == 3:
            interrupted.keep()
            break
    rest, resumed = lesson(tmp_path / "b")
    assert list(resumed.run(losses(rest))) == [4, 5, 6]
    torch.testing.assert_close(rest.weight, whole.weight, rtol=0, atol=0)
    rows = [json.loads(line) for line in (tmp_path / "b/first.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_complete_lesson_takes_no_step(tmp_path: Path):
    module, first = lesson(tmp_path)
    list(first.run(losses(module)))
    again, second = lesson(tmp_path)
    assert list(second.run(losses(again))) == []
    torch.testing.assert_close(again.weight, module.weight, rtol=0, atol=0)


def test_curves_show_both_lessons(tmp_path: Path):
    for name in ("first", "second"):
        rows = [{"step": n, "seconds": n, "loss": 1 / n} for n in range(1, 5)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    from PIL import Image

    with Image.open(draw(tmp_path)) as image:
        assert image.width > 800
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
