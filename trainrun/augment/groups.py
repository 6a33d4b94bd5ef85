"""Change each sample of a batch in a way of its own: no loop over samples, and no GPU that waits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GroupChange = Callable[..., Tensor]  # of inputs (N, ...) and arguments (N, ...); it may work in place


class Groups:
    """Samples by a number of each, below `count` or the same as none.

    On the host `sort` lays those of one number side by side, so that `change` computes those alone.
    """

    def __init__(self, number: Tensor, count: int) -> None:
        self.number, self.is_host = number, number.device.type == "cpu"
        if self.is_host:
            self.order = number.argsort()
            self.ends = torch.bincount(number, minlength=count).cumsum(0).tolist()

    def sort(self, x: Tensor) -> Tensor:
        return x.index_select(0, self.order) if self.is_host else x

    def change(self, x: Tensor, k: int, change: GroupChange, *arguments: Tensor) -> Tensor:
        """Change the samples of number k of x, on the host in place; all are sorted."""
        if not self.is_host:  # compute all: asking a GPU how many there are would make it wait
            chosen = (self.number == k).view(-1, *[1] * (x.ndim - 1))
            return torch.where(chosen, change(x.clone(), *arguments), x)
        start, end = self.ends[k - 1] if k else 0, self.ends[k]
        if start < end:
            part = x[start:end]
            changed = change(part, *(argument[start:end] for argument in arguments))
            if changed.data_ptr() != part.data_ptr():
                part.copy_(changed)
        return x
