"""Guide 1's script: its loop as it stands, on Fashion-MNIST."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn, optim


def train(model: nn.Module, train_loader: Any, epochs: int = 1000) -> None:
    """Its part 3 and 4; the metrics of the test split are left out."""
    device = torch.device("cpu")
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
    for _ in range(epochs):
        model.train()
        train_loss, correct = 0.0, 0
        for data, target in train_loader:
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            output = model(data)
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
        print(f"Loss={train_loss / len(train_loader):.4f}, {correct} right")
        scheduler.step()
