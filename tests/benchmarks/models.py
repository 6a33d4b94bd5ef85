"""The two models that every contestant trains: the guide's own MLP, and a CNN of four convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """784-256-128-10, as the guide has it: batch norm and dropout after the first layer."""

    def __init__(self, first: int = 256, second: int = 128) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, first)
        self.bn1 = nn.BatchNorm1d(first)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(first, second)
        self.fc3 = nn.Linear(second, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.size(0), -1)
        x = torch.relu(self.bn1(self.fc1(x)))
        x = self.dropout(x)
        x = torch.relu(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out


class CNN(nn.Module):
    """Four convolutions in two stages and two linear layers: 110 million operations a picture of 28 x 28."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
            if inputs == outputs:
                layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*layers)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.25))
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.neck(self.body(x)))
        return out
