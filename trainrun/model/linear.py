"""One linear layer on the flattened input: the model to begin with."""

from __future__ import annotations

import math

from torch import Tensor, nn


class Linear(nn.Module):
    """(N, *input_shape) -> (N, num_outputs)."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(math.prod(input_shape), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out
