"""The frozen encoder's stages as the heads take them: standardised, with the closed-form guess."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgevlm.export.compressors.grid import GridPool
from edgevlm.export.nano import connector, packages
from edgevlm.export.nano_train.heads import NanoHeads, Trunk
from edgevlm.export.nano_train.trunk import encoder
from edgevlm.export.nano_train.words import Words
from edgevlm.tensors import Array


class Seeing:
    """From cached arrays to what the heads take.

    Args:
        words: of the language model, for the guess.
        moments: mean and deviation of every channel of the three stages.
    """

    def __init__(self, words: Words, moments: dict[str, tuple[Tensor, Tensor]]) -> None:
        net, state = encoder()
        head = net.blocks[-1].convs[0]
        self._head = torch.as_tensor(head.weight), torch.as_tensor(head.bias)
        self.classifier = torch.as_tensor(net.classifier), torch.as_tensor(net.classifier_bias)
        named = words.mean(packages.class_names()).numpy()
        length = float(np.linalg.norm(words.table, axis=1).mean())
        fitted = connector.fit(state, named, length)
        self._guess = {
            name: torch.as_tensor(getattr(fitted, name))
            for name in ("mean", "deviation", "weight", "centre")
        }
        self._length = fitted.length
        self.moments = moments

    def stages(self, arrays: dict[str, Array]) -> Trunk:
        """Of cached pictures, the last stage behind the encoder's last convolution."""
        fine, middle, narrow = (
            torch.as_tensor(arrays[n].astype(np.float32)) for n in ("fine", "middle", "narrow")
        )
        coarse = functional.conv2d(narrow, *self._head).clamp(0, 6)
        return Trunk(fine, middle, coarse)

    def standardised(self, stages: Trunk) -> Trunk:
        """Every channel around 0 with deviation 1."""
        return Trunk(
            *(
                (x - self.moments[n][0][:, None, None]) / self.moments[n][1][:, None, None]
                for n, x in zip(Trunk._fields, stages, strict=True)
            )
        )

    def guess(self, coarse: Tensor, side: int) -> Tensor:
        """Closed-form tokens ``(batch, side^2, hidden)`` of the stage as ``stages`` gives it."""
        pool = torch.as_tensor(GridPool(side * side).matrix(coarse.shape[-1]))
        pooled = (coarse.flatten(2) @ pool).transpose(1, 2)
        g = self._guess
        x = functional.normalize((pooled - g["mean"]) / g["deviation"], dim=-1)
        return g["centre"] + self._length * functional.normalize(x @ g["weight"], dim=-1)

    def class_probabilities(self, coarse: Tensor) -> Tensor:
        """Of ImageNet's classes in every cell, ``(batch, cells, classes)``."""
        weight, bias = self.classifier
        return (coarse.flatten(2).transpose(1, 2) @ weight.T + bias).softmax(-1)


def moments(stages: Trunk) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and deviation of every channel over some pictures."""
    return {
        name: (x.mean((0, 2, 3)), x.std((0, 2, 3)) + 1e-3)
        for name, x in zip(Trunk._fields, stages, strict=True)
    }


def folded(heads: NanoHeads, found: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The heads' tensors with the standardisation inside, as ``export/nano`` takes them."""
    state = {name: t.detach().clone() for name, t in heads.state_dict().items()}
    for place, stage in (
        ("neck.fine", "fine"), ("neck.middle", "middle"), ("neck.coarse", "coarse"),
        ("mask.fine", "fine"),
    ):  # fmt: skip
        mean, deviation = found[stage]
        weight = state[f"{place}.weight"] / deviation[None, :, None, None]
        state[f"{place}.bias"] = state[f"{place}.bias"] - weight[:, :, 0, 0] @ mean
        state[f"{place}.weight"] = weight
    return state
