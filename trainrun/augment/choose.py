"""For each sample of a batch one change out of several, without a loop over samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Change = tuple[Callable[..., Tensor], *tuple[Tensor, ...]]  # called with x and arguments, (N, ...) each


def choose(x: Tensor, number: Tensor, changes: Sequence[Any]) -> Tensor:
    """Sample i of x (N, ...) changed by `changes[number[i]]`; no such number leaves it as it is."""
    result = x.clone()
    for k, (change, *arguments) in enumerate(changes):
        chosen = number == k
        if x.device.type == "cpu":  # only those samples are worked on
            rows = chosen.nonzero()[:, 0]
            if len(rows):
                result[rows] = change(x[rows], *(argument[rows] for argument in arguments))
        else:  # to ask how many there are would make the device wait
            spread = chosen.view(-1, *[1] * (x.ndim - 1))
            result = torch.where(spread, change(x, *arguments), result)
    return result
