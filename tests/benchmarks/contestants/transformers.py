"""Hugging Face's Trainer with its defaults, among them a fused optimizer and a clipped gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments


class WithLoss(nn.Module):
    """A model that returns its loss, as the Trainer wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(inputs)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Named:
    """A loader's batches by the names of the model's arguments."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for inputs, labels in self.loader:
            yield {"inputs": inputs, "labels": labels}


class Fed(Trainer):
    """Takes its batches from a given loader."""

    def __init__(self, loader: Any, **others: Any) -> None:
        super().__init__(**others)
        self.loader = loader

    def get_train_dataloader(self) -> Any:
        return Named(self.loader)


def train(model: nn.Module, loader: Any, size: int, folder: Path) -> None:
    """Train for more epochs than anybody waits for."""
    args = TrainingArguments(
        str(folder),
        use_cpu=True,
        per_device_train_batch_size=size,
        num_train_epochs=1000,
        learning_rate=1e-3,
        weight_decay=0.01,
    )
    Fed(loader, model=WithLoss(model), args=args).train()
