"""The guide's loop with Hugging Face's Accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F


def train(model: nn.Module, loader: Any, feed: Callable[[Any], Iterator[Any]]) -> None:
    """Epoch after epoch; `feed` waits before each batch."""
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    while True:
        model.train()
        for inputs, targets in feed(loader):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            accelerator.backward(loss)
            optimizer.step()
        scheduler.step()
