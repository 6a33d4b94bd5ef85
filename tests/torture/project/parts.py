"""A user's project: data with random transforms, and a network that tells where it is.

`sys.audit` costs nothing where nobody listens; the tests strike at these points.
"""

from __future__ import annotations

import random
import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Waves(Dataset):
    """Two kinds of wave, shifted, scaled and hidden in noise by three random generators."""

    classes = ("slow", "fast")

    def __init__(self, num_samples: int, noise: float) -> None:
        self.num_samples, self.noise = num_samples, noise
        self.targets = [index % 2 for index in range(num_samples)]

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        target = self.targets[index]
        wave = torch.sin(torch.linspace(0, 6.28 * (1 + target), 16)).roll(random.randrange(16))
        return np.random.uniform(0.5, 1.5) * wave + self.noise * torch.randn(16), target


class Net(nn.Module):
    """Linear layers with batch norm and dropout."""

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(input_shape).numel(), width))
        self.norm, self.drop = nn.BatchNorm1d(width), nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        sys.audit("torture.point", "train" if self.training else "judge")
        return self.head(self.drop(torch.relu(self.norm(self.body(inputs)))))
