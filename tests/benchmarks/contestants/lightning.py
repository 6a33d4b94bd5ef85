"""PyTorch Lightning's Trainer, with its defaults or with everything off."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

OFF = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Classifier(lightning.LightningModule):
    """The guide's training step, optimizer and schedule as Lightning wants them."""

    def __init__(self, model: nn.Module, logs: bool) -> None:
        super().__init__()
        self.model, self.logs = model, logs

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, targets = batch
        loss = F.cross_entropy(self.model(inputs), targets)
        if self.logs:
            self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.001, weight_decay=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)]


def train(model: nn.Module, loader: Any, folder: Path, off: bool = False, max_steps: int = -1) -> None:
    """Train for `max_steps`, or for more epochs than anybody waits for."""
    warnings.filterwarnings("ignore", module="lightning")
    settings: dict[str, Any] = OFF if off else {}
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=1000, max_steps=max_steps, default_root_dir=folder, **settings
    )
    trainer.fit(Classifier(model, logs=not off), loader)
