"""Second lesson: the language model reads the tokens and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgevlm.export.nano_train.packing import NONE, VISUAL, Packed


def answer_loss(model: Any, tokens: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Mean over answers of the mean cross entropy of their tokens, and how many were right.

    Args:
        model: from ``language_model``.
        tokens: visual, float32 ``(batch, count, hidden)``.
        packed: the rows around them.
    """
    hidden = hidden_states(model, tokens, packed)
    wanted = packed.targets != NONE
    logits = (hidden[wanted] @ model.model.embed_tokens.weight.T).float()
    targets, weights = packed.targets[wanted], packed.weights[wanted]
    each = functional.cross_entropy(logits, targets, reduction="none")
    right = (logits.argmax(-1) == targets).float()
    return (each * weights).sum() / weights.sum(), (right * weights).sum() / weights.sum()


def hidden_states(model: Any, tokens: Tensor, packed: Packed) -> Tensor:
    """Of the last layer, behind its norm, ``(batch, length, hidden)``."""
    table = model.model.embed_tokens.weight
    embedded = functional.embedding(packed.ids.clamp(min=0), table)
    visual = packed.ids == VISUAL
    embedded = embedded.masked_scatter(visual[..., None], tokens.to(embedded.dtype))
    mask = torch.zeros(packed.seen.shape, dtype=table.dtype)
    mask.masked_fill_(~packed.seen, torch.finfo(table.dtype).min)
    found: Tensor = model.model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
    return found


@torch.no_grad()
def answers(
    model: Any, tokens: Tensor, prompts: Sequence[list[int]], end: int, most: int = 40
) -> list[list[int]]:
    """Greedy answers to one question a picture.

    Args:
        model: from ``language_model``.
        tokens: visual, float32 ``(batch, count, hidden)``.
        prompts: ids with ``VISUAL`` in the places of the tokens.
        end: the token that ends an answer.
        most: tokens of an answer.
    """
    table = model.model.embed_tokens.weight
    length = max(map(len, prompts))
    ids = torch.tensor([[0] * (length - len(p)) + p for p in prompts])
    there = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    embedded = functional.embedding(ids.clamp(min=0), table)
    embedded = embedded.masked_scatter((ids == VISUAL)[..., None], tokens.to(embedded.dtype))
    found: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    cache = None
    for _ in range(most):
        positions = (there.cumsum(1) - 1).clamp(min=0)[:, -embedded.shape[1] :]
        out = model.model(
            inputs_embeds=embedded, attention_mask=there, position_ids=positions,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        cache = out.past_key_values
        chosen = (out.last_hidden_state[:, -1] @ table.T).argmax(-1)
        for n, token in enumerate(chosen.tolist()):
            done[n] = done[n] or token == end
            if not done[n]:
                found[n].append(token)
        if all(done):
            break
        embedded = functional.embedding(chosen, table)[:, None]
        there = torch.cat([there, torch.ones(len(prompts), 1, dtype=there.dtype)], 1)
    return found
