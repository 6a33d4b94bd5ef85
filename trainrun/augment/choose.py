"""Apply to each sample of a batch one of several changes, without a loop over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Change = tuple[Callable[..., Tensor], *tuple[Tensor, ...]]  # called with x and arguments, (N, ...) each


def choose(x: Tensor, number: Tensor, changes: Sequence[Any]) -> Tensor:
    """Change sample i of x (N, ...) by `changes[number[i]]`; another number leaves it as it is."""
    result = x.clone()
    for k, (change, *arguments) in enumerate(changes):
        chosen = number == k
        if x.device.type == "cpu":  # compute only the chosen samples
            rows = chosen.nonzero()[:, 0]
            if len(rows):
                result[rows] = change(x[rows], *(argument[rows] for argument in arguments))
        else:  # compute all: asking a GPU how many are chosen would make it wait
            spread = chosen.view(-1, *[1] * (x.ndim - 1))
            result = torch.where(spread, change(x, *arguments), result)
    return result
