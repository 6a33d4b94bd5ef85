"""Hugging Face's Trainer with its defaults, among them a fused optimizer and a clipped gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate
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
        return map(named, self.loader)


class Fed(Trainer):
    """Takes its batches from a given loader."""

    def __init__(self, loader: Any, **others: Any) -> None:
        super().__init__(**others)
        self.loader = loader

    def get_train_dataloader(self) -> Any:
        return Named(self.loader)


def named(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {"inputs": batch[0], "labels": batch[1]}


def train(model: nn.Module, dataset: Any, size: int, folder: Path, before_batch: Callable[[], None]) -> None:
    """Train on samples that the Trainer loads itself; `before_batch` waits."""

    def collate(samples: list[Any]) -> dict[str, Tensor]:
        before_batch()
        return named(default_collate(samples))

    args = settings(size, folder)
    Trainer(WithLoss(model), args, data_collator=collate, train_dataset=dataset).train()


def train_on(model: nn.Module, loader: Any, size: int, folder: Path) -> None:
    """Train on a loader's batches."""
    Fed(loader, model=WithLoss(model), args=settings(size, folder)).train()


def settings(size: int, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        str(folder),
        use_cpu=True,
        per_device_train_batch_size=size,
        num_train_epochs=1000,
        learning_rate=1e-3,
        weight_decay=0.01,
    )
